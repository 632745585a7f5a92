"""Every row of the list of bad inputs, and every fault: the file of the tests that try it, or `ARGUED`.

A row's tests have its name, such as ADP-43, at the beginning of a parameter (`"ADP-43 a lying length"`) or in the name
of a function (`test_adp_43_...`). docs/security.md lists the rows that are answered in another way than such lists
expect, and those without a test.
"""

from __future__ import annotations

ARGUED = "docs/security.md"

_BAD = "service/bad_inputs/test_"

KINDS: dict[str, tuple[int, str]] = {
    "IMG": (34, f"{_BAD}images.py"),
    "MP": (18, f"{_BAD}requests.py"),
    "HDR": (16, f"{_BAD}requests.py"),
    "JSN": (12, f"{_BAD}requests.py"),
    "ADP": (46, f"{_BAD}adapters.py"),
    "NAM": (20, f"{_BAD}requests.py"),
    "HYP": (6, f"{_BAD}hyper_parameters.py"),
    "JOB": (8, f"{_BAD}jobs.py"),
    "ZIP": (13, f"{_BAD}zips.py"),
    "CLI": (8, "client/test_bad_use.py"),
}
"""The kind of a row, as its name begins, to the number of such rows and the file with most of their tests."""

_ELSEWHERE = {
    f"{_BAD}connections.py": "MP-16 MP-17 MP-18 HDR-02 HDR-04 HDR-05 HDR-06 HDR-07 HDR-15 HDR-16 JSN-11",
    f"{_BAD}jobs.py": "NAM-19",
    "adapters/adapter/test_admission.py": "ADP-32",
    "service/jobs/test_worker_verbs.py": "JOB-08",
    "client/cli/test_interrupted.py": "CLI-05",
    "service/routes/test_signed.py": "ADP-46",
}

ROWS: dict[str, str] = {
    f"{kind}-{number:02}": file for kind, (count, file) in KINDS.items() for number in range(1, count + 1)
} | {row: file for file, rows in _ELSEWHERE.items() for row in rows.split()}
"""The name of a row to the file with its tests, or ARGUED."""

FAULTS: dict[str, tuple[str, ...]] = {
    "F1": (  # kill -9 during an upload
        "service/faults/test_killed.py::test_a_killed_server_finds_the_state_before_or_after",
        "service/kills/test_kills.py::test_acknowledged_uploads_survive_kill_9",
    ),
    "F2": ("service/kills/test_kills.py::test_kills_during_predictions",),  # kill -9 during a swap
    "F3": (  # an error during a swap
        "service/faults/test_faults.py::test_a_fault_in_any_write_of_a_swap",
        "adapters/swap/test_exact.py::test_a_merge_that_fails_at_any_delta_leaves_the_base",
    ),
    "F4": ("service/kills/test_kills.py::test_kills_during_predictions",),  # kill -9 during a batch
    "F5": (  # kill -9 of a worker that trains
        "service/kills/test_kills.py::test_nothing_is_lost_when_workers_and_servers_are_killed",
        "service/kills/test_one_job.py::test_a_resumed_job_makes_the_same_adapter_as_an_undisturbed_one",
    ),
    "F6": (  # kill -9 of a worker that publishes
        "service/jobs/test_publishing.py::test_asking_again_with_the_same_lease_gives_the_same_version",
        "service/jobs/test_worker_verbs.py::test_a_publication_ends_the_job_in_the_same_transaction",
    ),
    "F7": ("service/kills/test_one_job.py::test_a_zombie_publishes_nothing",),  # a worker that comes back
    "F8": (  # a full disk
        "service/faults/test_faults.py::test_a_fault_leaves_the_state_before_or_after",
        "service/store/test_reserve.py::test_on_a_disk_without_a_free_byte_a_purge_works",
    ),
    "F9": ("service/store/test_health.py::test_a_store_that_can_only_be_read_refuses_writes",),  # a store to read only
    "F10": ("service/store/test_database.py::test_a_writer_that_holds_the_lock_is_waited_for",),  # a locked database
    "F11": (  # a damaged database
        "service/store/test_health.py::test_a_damaged_store_acknowledges_nothing",
        "service/store/test_database.py::test_a_file_that_is_not_a_database_is_refused",
        "service/store/test_database.py::test_a_newer_schema_is_refused",
    ),
    "F12": (  # a damaged file of an adapter
        "service/store/test_blobs.py::test_a_damaged_or_missing_blob_is_never_returned",
        "service/store/remote/test_remote_blobs.py::test_a_lost_or_damaged_file_of_the_store_is_never_returned",
    ),
    "F13": (  # a flipped bit in the weights
        "service/routes/test_health.py::test_integrity_is_ok_after_switches_and_finds_one_changed_weight",
        "adapters/backbone/test_pristine.py::test_a_flipped_bit_in_a_pristine_clone_is_found",
    ),
    "F14": (  # a slow client
        "service/web/test_transport.py::test_200_slow_sockets_are_closed_at_their_deadline",
        "service/web/test_transport.py::test_a_client_that_does_not_read_its_response_is_closed",
    ),
    "F15": (  # a client that disconnects
        "service/kills/test_kills.py::test_a_slow_client_that_disconnects_leaves_nothing_behind",
        "service/engine/test_engine.py::test_a_cancelled_image_is_dropped_before_it_is_computed",
    ),
    "F16": ("service/jobs/test_lease_watch.py::test_a_jump_of_the_clock_takes_no_job",),  # a clock that jumps
    "F17": (  # no memory
        "service/faults/test_faults.py::test_a_fault_leaves_the_state_before_or_after",
        "service/engine/test_failures.py::test_halves_without_memory_are_refused_and_hold_nothing",
    ),
    "F18": (  # no memory on the device
        "service/engine/test_failures.py::test_a_batch_without_memory_is_halved_and_answered",
    ),
    "F19": ("service/engine/test_failures.py::test_a_lost_device_ends_the_engine",),  # a lost device
    "F20": ("service/engine/test_failures.py::test_an_adapter_whose_scores_are_never_finite_is_quarantined",),  # NaN
    "F21": (  # SIGTERM to a server at work
        "service/test_server.py::test_sigterm_finishes_accepted_requests_and_exits_with_0",
        "service/test_server.py::test_what_outlives_the_drain_is_told_so",
    ),
    "F22": ("service/kills/test_one_job.py::test_sigterm_gives_the_job_back_within_five_seconds",),  # to a worker
    "F23": (  # other signals, and a parent that dies
        "service/test_startup.py::test_ctrl_c_while_loading_is_one_line",
        "service/worker/test_supervisor.py::test_serve_with_worker_trains_while_it_serves_and_leaves_no_process_behind",
    ),
    "F24": (  # a store that is away
        "service/store/test_database.py::test_an_unreachable_server_is_unavailable_and_not_a_crash",
        "service/store/test_memo.py::test_while_the_source_cannot_be_read_the_last_value_is_used",
        "service/kills/test_one_job.py::test_a_worker_outlasts_a_server_that_is_away",
    ),
    "F25": ("Redis is not used",),
    "F26": (  # uploads that race
        "service/store/test_registry.py::test_racing_uploads_get_numbers_of_their_own",
        "service/store/test_datasets.py::test_many_uploads_at_once_make_one_version_each",
    ),
    "F27": (  # a delete of what is in use
        "service/routes/test_integrity.py::test_integrity_answers_during_uploads_and_deletions",
        "service/routes/test_jobs.py::test_a_dataset_that_a_job_waits_for_cannot_be_deleted",
        "service/store/test_blobs.py::test_a_file_that_is_deleted_while_it_is_uploaded_again",
    ),
    "F28": (  # a new version of what is in use
        "service/store/test_registry.py::test_what_another_process_publishes_deletes_or_points_at",
        "service/test_crosstalk.py::test_64_clients_get_the_scores_of_their_own_adapter",
    ),
    "F29": ("Images are decoded in threads of the server",),
    "F30": ("What a request costs is not computed on the event loop",),
    "F31": ("service/web/test_transport.py::test_without_a_free_file_number",),  # no file numbers left
    "F32": (  # a log that nobody takes
        "service/test_logs.py::test_nobody_waits_for_a_log_that_is_not_read",
        "service/test_auditing.py::test_a_request_is_served_while_the_log_cannot_be_written",
    ),
    "F33": (  # a wrong start
        "service/test_cli.py::test_a_wrong_start_ends_at_once_with_one_line",
        "service/test_startup.py::test_a_port_that_cannot_be_used_is_one_line_with_the_fix",
    ),
    "F34": ("service/store/test_catalog.py::test_a_thousand_adapters",),  # a start with many adapters
    "F35": (  # another schema
        "service/store/test_migrate.py::test_a_kill_inside_a_migration_leaves_the_old_schema",
        "service/store/test_migrate.py::test_a_state_folder_of_a_released_version_keeps_its_adapters",
        "service/store/test_database.py::test_a_newer_schema_is_refused",
    ),
    "F36": (  # training that fails
        "service/worker/test_worker.py::test_a_job_that_cannot_be_trained_fails_with_its_code",
        "adapters/training/test_loop.py::test_a_diverging_run_stops_with_a_message",
    ),
}
"""The name of a fault to its tests, `file::the beginning of a test's name`, or to a sentence of ARGUED."""
