"""Which tests run: the marks soak, gpu, slow, browser and postgresql. slow.py lists what is slow.

conftest.py registers this file as a plugin. It asks for markers, not keywords: keywords include folder names, and a
checkout may lie in a folder named gpu.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePosixPath

import pytest
from tests.slow import LONGEST, SLOW

TESTS = Path(__file__).parent

# Folders, files, and tests `file::name` with all their parameters, that `make quick` leaves out. A test belongs here if
# it takes more than half a second of processor time, a file if most of its seconds are in such tests, if it takes three
# seconds, or if it takes one and its tests a tenth of a second each, a folder if its tests import PEFT, LyCORIS or
# ONNX, which each process of the suite would load.
SLOW = frozenset(
    {
        "adapters/adapter/test_admission.py::test_a_size_that_the_backbone_cannot_compute_is_refused_before_it_is_served",
        "adapters/adapter/test_admission.py::test_it_admits_every_method_in_every_stored_dtype",
        "adapters/adapter/test_admission.py::test_it_refuses",
        "adapters/adapter/test_schema.py::test_files_of_the_zoo_stay_what_they_are_when_they_are_written_again",
        "adapters/adapter/test_trust_check.py",
        "adapters/backbone/test_inflate.py",
        "adapters/backbone/test_monai_networks.py",
        "adapters/backbone/test_packaged.py",
        "adapters/backbone/test_weights.py::test_vgg16_loads_from_a_file_of_its_convolutions_and_gives_512_features",
        "adapters/cli/test_compose.py",
        "adapters/data/test_dataset_archive.py::test_zip_10_a_few_unreadable_images_are_left_out_and_listed",
        "adapters/inputs/test_jpeg_header.py::test_a_thousand_whole_files_with_one_odd_tag_are_read_and_turned_rightly",
        "adapters/inputs/test_png.py::test_a_thousand_pngs_with_one_odd_chunk_are_read_and_turned_rightly",
        "adapters/inputs/test_refused_images.py::test_a_bomb_is_refused_or_read_within_a_second",
        "adapters/inputs/test_tiff_codecs.py::test_a_strip_that_would_unfold_to_hundreds_of_megabytes_costs_no_memory",
        "adapters/masks/test_tiff.py::test_a_damaged_tiff_is_read_or_refused_with_a_fix_and_no_other_error",
        "adapters/training/test_cross_fitting.py",
        "adapters/training/test_run_report.py",
        "adapters/training/test_promises.py",
        "adapters/cli/test_evaluate.py",
        "adapters/cli/test_extract.py",
        "adapters/cli/test_review.py",
        "adapters/cli/test_train.py",
        "adapters/cli/test_zero_shot.py::test_the_command_writes_an_adapter_from_a_file_of_texts",
        "adapters/compose",
        "adapters/data/test_dataset_archive.py::test_more_than_65535_files_are_written_and_read",
        "adapters/data/test_dataset_archive.py::test_real_cells_are_admitted_quickly_and_keep_their_digest",
        "adapters/groups/test_group_search.py::test_an_exponential_expression_is_stopped_and_one_without_the_repetition_works",
        "adapters/groups/test_group_search.py::test_names_are_searched_one_by_one_and_those_without_a_match_are_none",
        "adapters/data/test_metadata_probe.py",
        "adapters/data/test_near_duplicates.py::test_cells_of_one_kind_are_not_copies_but_their_copies_are_found",
        "adapters/data/test_near_duplicates.py::test_ten_thousand_images_are_compared_in_seconds",
        "adapters/explain/test_cam.py",
        "adapters/explain/test_explainer.py",
        "adapters/explain/test_layercam.py",
        "adapters/explain/test_method.py",
        "adapters/explain/test_network.py",
        "adapters/explain/test_occlusion.py",
        "adapters/export",
        "adapters/extract",
        "adapters/foreign",
        "adapters/formulas",
        "adapters/explain",
        "adapters/graph/test_fold.py",
        "adapters/graph/test_functional.py",
        "adapters/graph/test_pooled_maps.py",
        "adapters/graph/test_segments.py",
        "adapters/inputs/test_avif.py",
        "adapters/inputs/test_tiff.py::test_each_tiff_that_was_written_by_hand_is_equal_to_its_array_at_every_depth",
        "adapters/inputs/test_tiff_page.py::test_one_odd_tag_of_any_kind_costs_neither_the_pixels_nor_the_orientation",
        "adapters/inputs/test_volumes.py::test_a_bomb_is_not_inflated",
        "adapters/programs/test_choose.py::test_auto_measures_once_and_saves_its_choice",
        "adapters/programs/test_executor.py",
        "adapters/programs/test_inductor.py",
        "adapters/programs/test_openvino.py",
        "adapters/quality",
        "adapters/recipe/test_carry_out.py",
        "adapters/recipe/test_recipe.py",
        "adapters/report/test_html.py",
        "adapters/report/test_size_table.py::test_the_suffix_selects_the_format",
        "adapters/report/test_write.py",
        "adapters/runners/test_batch.py::test_an_image_that_several_adapters_ask_for_is_in_the_batch_once",
        "adapters/runners/test_end_to_end.py",
        "adapters/runners/test_fused.py",
        "adapters/runners/test_map_programs.py",
        "adapters/runners/test_mixed.py",
        "adapters/runners/test_mixed_behind_trunk.py",
        "adapters/runners/test_mixed_graph.py::test_batch_and_image_size_change_from_call_to_call",
        "adapters/runners/test_pooled.py",
        "adapters/runners/test_segment_runner.py",
        "adapters/runners/test_split_backbone.py",
        "adapters/runners/test_threads.py",
        "adapters/swap/test_exact.py",
        "adapters/test_equality.py::test_lycoris_gives_the_same_output",
        "adapters/test_equality.py::test_peft_merged_and_unmerged_gives_the_same_output",
        "adapters/test_every_kind.py",
        "adapters/test_exactness.py",
        "adapters/test_light_timm.py::test_nothing_imports_torchdynamo_until_it_is_needed_and_then_it_works",
        "adapters/test_random_weights.py",
        "adapters/test_zoo.py",
        "adapters/training/test_checkpoint.py::test_resuming_with_another_setting_is_refused_and_the_setting_is_named",
        "adapters/training/test_evaluate.py",
        "adapters/training/test_loop.py",
        "adapters/training/test_search.py",
        "adapters/training/test_segmentation.py",
        "adapters/text/test_text_prototypes.py",
        "adapters/training/test_train_adapter.py",
        "adapters/training/test_train_masks.py",
        "adapters/training/test_trainable.py",
        "adapters/training/test_unfamiliar.py",
        "adapters/training/test_volumes.py",
        "adapters/training/test_zero_shot.py",
        "adapters/trust/test_conformal.py::test_each_class_is_covered_as_promised_over_two_hundred_splits",
        "adapters/trust/test_scaling.py",
        "adapters/zips/test_directory.py::test_zip_12_other_compression_methods_are_refused",
        "adapters/zips/test_reader.py::test_a_mutated_archive_is_refused_or_read_and_nothing_else_happens",
        "client/bench/test_connection.py::test_failures_are_errors_of_the_client_and_the_next_request_opens_a_new_connection",
        "client/bench/test_load.py",
        "client/cli/test_bench.py::test_ctrl_c_ends_at_once_even_while_responses_are_missing",
        "client/cli/test_bench.py::test_failures_are_counted_by_code_shown_once_and_are_exit_status_1",
        "client/cli/test_jobs.py::test_ctrl_c_stops_watching_but_not_the_job",
        "client/cli/test_jobs.py::test_list_show_logs_and_the_shapes_of_json",
        "client/cli/test_main.py::test_help_of_every_client_command_explains_its_options",
        "client/cli/test_main.py::test_the_shell_completes_commands_and_options",
        "client/cli/test_predict.py::test_ctrl_c_ends_cleanly_and_the_next_run_resumes",
        "client/resources/test_datasets.py::test_get_list_delete_and_pull",
        "client/resources/test_jobs.py::test_list_is_newest_first_by_state_and_in_pages",
        "client/test_advice.py::test_every_route_that_a_message_advises_has_a_call_and_a_command",
        "client/test_package.py",
        "fuzz",
        "service/engine/test_scheduler.py::test_a_head_waits_for_one_batch_of_each_adapter_that_waited_before_it_however_many_images_they_have",
        "service/faults/test_faults.py",
        "service/histories/test_histories.py",
        "service/faults/test_killed.py",
        "service/kills/test_kills.py",
        "service/kills/test_one_job.py",
        "service/routes/test_adapters.py",
        "service/routes/test_aliases.py",
        "service/routes/test_rollouts.py",
        "service/routes/test_snapshots.py",
        "service/rollouts/test_labelled.py",
        "service/rollouts/test_pairs.py",
        "service/rollouts/test_rules.py",
        "service/rollouts/test_whole.py",
        "service/routes/test_audit.py",
        "service/test_auditing.py",
        "service/routes/test_docs.py",
        "service/routes/test_explain.py",
        "service/routes/labelling/test_feedback.py",
        "service/routes/test_health.py",
        "service/routes/test_imports.py",
        "service/routes/test_integrity.py",
        "service/routes/test_jobs.py",
        "service/routes/test_jobs_of_workers.py",
        "service/routes/labelling/test_labelstudio.py",
        "service/routes/labelling/test_next_images.py",
        "service/page",
        "service/routes/labelling/test_pool_scores.py",
        "service/routes/test_predict.py",
        "service/review/test_run.py",
        "service/routes/labelling/test_reviews.py",
        "service/routes/test_tokens.py",
        "service/routes/test_whoami.py",
        "service/routes/test_sharing.py",
        "service/routes/test_signed.py",
        "service/store/test_catalog.py",
        "service/store/test_exports.py",
        "service/oip/test_grpc_server.py",
        "service/oip/test_inference.py",
        "service/oip/test_repository.py",
        "service/oip/test_rest.py",
        "service/twins",
        "service/pools/test_pools.py",
        "service/store/test_remote_blobs.py",
        "service/tenants/test_adapters.py",
        "service/tenants/test_datasets.py",
        "service/tenants/test_holdings.py",
        "service/tenants/test_isolation.py",
        "service/tenants/test_jobs.py",
        "service/tenants/test_pools.py",
        "service/tenants/test_queues.py",
        "service/tenants/test_zoo.py",
        "service/test_app.py",
        "service/test_bad_input.py",
        "service/test_bench.py",
        "service/test_build.py",
        "service/test_cli.py",
        "service/test_cli_options.py::test_several_wrong_flags_are_one_line_that_names_each",
        "service/test_clip.py",
        "service/test_caches.py",
        "service/test_crosstalk.py",
        "service/test_crosstalk_changes.py",
        "service/test_openapi_requests.py",
        "service/test_errors.py",
        "service/test_gc.py",
        "service/test_maintenance.py",
        "service/test_middleware.py",
        "service/test_rate_limits.py",
        "service/test_recipe.py",
        "service/test_segmentation.py",
        "service/test_server.py",
        "service/worker/test_supervisor.py",
        "service/test_volumes.py",
        "service/web/test_bodies.py::test_an_adapter_without_a_content_type_is_refused_and_the_advice_works",
        "service/web/test_bodies.py::test_an_upload_over_the_limit_answers_413_and_the_server_continues",
        "service/web/test_bodies.py::test_no_header_of_a_request_is_a_500_on_any_route",
        "service/web/test_deadline.py",
        "service/web/test_hardening.py",
        "service/web/test_job_schemas.py",
        "service/web/test_json_body.py::test_every_route_that_takes_json_refuses_what_is_not_json",
        "service/web/test_judgement.py",
        "service/web/test_schemas.py::test_responses_match_the_documented_schema_field_by_field",
        "service/worker/test_attempt.py",
        "service/worker/test_gate.py::test_labels_in_another_order_are_compared_and_other_labels_are_refused",
        "service/worker/test_gate.py::test_the_accuracy_of_an_adapter_on_its_own_test_part_is_the_one_it_was_trained_with",
        "service/worker/test_worker.py",
        "service/web/test_trust_schemas.py",
        "test_benchmarks_gpu.py",
        "test_docker.py",
        "test_docs.py",
        "test_extras.py",
        "test_language.py::test_checked_files_are_in_plain_english",
        "test_marks.py::test_every_slow_file_and_test_is_there",
        "test_marks.py::test_tests_are_marked_by_the_list_and_by_their_fixtures",
        "test_mutants.py::test_a_bug_is_caught_only_by_a_test_that_fails_by_its_assertion",
        "test_mutants.py::test_a_test_that_fails_or_is_missing_without_any_bug_is_said",
        "test_packages.py::test_importing_the_library_sets_nothing_in_torch",
        "test_packages.py::test_nothing_that_makes_or_sends_spans_is_imported_before_it_is_configured",
        "test_packages.py::test_nothing_reads_a_pickle",
        "service/web/test_preconditions.py",
        "service/web/test_preconditions_of_writes.py",
        "service/routes/test_outcomes.py",
        "service/store/test_health.py",
        "service/web/test_held_bytes.py",
        "service/web/test_transport.py",
        "service/bad_inputs",
        "service/engine/test_canary.py",
        "service/backup/test_killed.py",
        "service/backup/test_make.py",
        "service/backup/test_restore.py",
        "service/engine/test_failures.py",
        "test_packages.py::test_no_check_is_an_assert_that_python_o_would_drop",
        "test_packages.py::test_no_source_file_or_function_is_too_long_and_none_has_too_many_parameters",
        "test_client_and_server_agree.py::test_a_worker_names_no_phase_but_these_and_in_this_order",
        "adapters/test_characters.py::test_no_accepted_character_moves_a_cursor_or_is_invisible_by_unicodes_own_tables",
        "service/worker/test_gate.py::test_an_adapter_of_another_backbone_has_no_accuracy",
        "client/cli/test_lazy.py::test_the_help_of_a_training_command_imports_only_what_it_prints_with",
        "client/cli/test_streams.py::test_no_color_and_no_terminal_print_no_escapes",
        "client/cli/test_streams.py::test_a_process_without_any_open_stream_works_and_sends_nothing_of_its_output_to_the_server",
        "adapters/runners/test_batch.py::test_only_the_asked_items_are_in_the_batch",
        "service/web/test_bodies.py::test_no_header_of_a_part_is_a_500",
        "service/access/test_audit.py::test_what_waits_is_bounded_and_what_is_lost_is_counted",
        "service/routes/test_datasets.py",
        "test_samples.py",
        "test_types_of_examples.py",
        "client/test_wrong_servers.py",
        "client/test_bad_use.py",
        "service/monitoring",
        "service/tracing/test_otel.py::test_a_collector_that_is_away_or_hangs_delays_the_end_by_a_bound_and_holds_bounded_memory",
        "service/worker/test_job_span.py",
        "service/repair",
        "service/test_startup.py",
        "service/web/test_compression.py",
        "service/web/test_digests.py",
        "adapters/runners/test_merged.py",
        "adapters/runners/test_kept_trunk.py",
        "service/engine/test_shadows.py",
        "service/engine/test_shadowed_answers.py",
        "service/rollouts/test_shadowing.py",
        "adapters/runners/test_keeping.py",
        "service/engine/test_engine.py",
        "adapters/adapter/test_hostile_files.py",
        "adapters/adapter/test_rebind.py",
        "adapters/backbone/test_clip.py",
        "adapters/backbone/test_resized_vit.py",
        "adapters/backbone/test_weights_file.py",
        "adapters/cli/test_export.py",
        "adapters/cli/test_recipe.py",
        "adapters/data/test_dataset_report.py",
        "adapters/data/test_survey.py",
        "adapters/delta/test_addmm_kernel.py",
        "adapters/delta/test_decomposed.py",
        "adapters/kernels",
        "adapters/runners/test_graph_mounting.py::test_adapters_of_every_method_answer_as_in_float64_in_any_order",
        "adapters/runners/test_slab.py",
        "adapters/metrics/test_paired.py",
        "adapters/metrics/test_share.py",
        "adapters/report/test_pictures.py",
        "adapters/report/test_small_parts.py",
        "adapters/runners/test_runner.py",
        "adapters/runners/test_stages.py",
        "adapters/swap/test_subtract.py",
        "adapters/training/test_calibration_images.py",
        "adapters/training/test_training_data.py",
        "adapters/trust/test_fit.py",
        "service/access/test_tokens.py",
        "service/backup/test_told.py",
        "service/engine/test_scheduler_threads.py",
        "service/jobs/test_client_verbs.py",
        "service/jobs/test_lease_watch.py",
        "service/jobs/test_publishing.py",
        "service/jobs/test_table.py",
        "service/jobs/test_worker_verbs.py",
        "service/oip/test_statistics.py",
        "service/pools/test_versions.py",
        "service/review/test_queue.py",
        "service/rollouts/test_keeper.py",
        "service/rollouts/test_rows.py",
        "service/store/test_aliases.py",
        "service/store/test_datasets.py",
        "service/store/test_keys.py",
        "service/store/test_migrate.py",
        "service/store/test_registry.py",
        "service/store/test_similar.py",
        "service/test_local_tokens.py",
        "service/test_metrics.py",
        "service/test_removed_meanwhile.py",
        "service/web/test_openapi.py",
        "service/web/test_typescript.py",
        "test_site.py::test_the_messages_of_a_code_are_those_of_the_source",
        "test_site.py::test_the_site_builds_strictly_and_loads_nothing_from_another_host",
        "service/worker/test_server_client.py",
    }
)


# Files that take more than 15 seconds, the longest first. `make test` starts with them, so that its two processes end
# together. xdist alone would start with the files of many tests, and a minute of waiting for a server would come last.
LONGEST = (
    *("service/kills/test_one_job.py", "service/kills/test_kills.py", "test_docs.py", "service/faults/test_killed.py"),
    *("service/test_recipe.py", "service/faults/test_faults.py"),
    *("service/test_crosstalk.py", "service/page/test_ask.py"),
    *("service/test_recipe.py", "service/faults/test_faults.py", "service/web/test_typescript.py"),
    *("service/test_crosstalk.py", "service/page/test_newcomer.py"),
    *("test_benchmarks_gpu.py", "service/test_crosstalk_changes.py", "service/test_openapi_requests.py"),
    *("service/worker/test_attempt.py", "service/worker/test_supervisor.py", "test_docker.py", "test_packages.py"),
    *("service/test_volumes.py", "service/test_clip.py", "test_extras.py", "service/kills/test_batch.py"),
    *("adapters/programs/test_executor.py", "adapters/graph/test_functional.py"),
    *("adapters/recipe/test_carry_out.py", "adapters/runners/test_mixed.py", "adapters/runners/test_map_programs.py"),
    *("adapters/runners/test_segment_runner.py", "adapters/export/test_onnx.py", "adapters/runners/test_pooled.py"),
    *("adapters/training/test_unfamiliar.py", "adapters/runners/test_fused.py", "adapters/training/test_promises.py"),
    *("adapters/training/test_loop.py", "adapters/training/test_train_adapter.py"),
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that is slow as a whole is not even imported where no slow test may run."""
    if "not slow" in str(config.getoption("markexpr")) and _is_slow(_relative(collection_path)):
        return True
    return None


@pytest.hookimpl(tryfirst=True)  # before pytest takes out what -m does not ask for
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Soak tests run only with `-m soak`, and gpu tests only on a CUDA device. The longest files come first."""
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(_relative(item.path), len(place)))
    asked_for_soak = "soak" in str(config.getoption("markexpr")).replace("not soak", "")
    for item in items:
        file = _relative(item.path)
        if _is_slow(file) or f"{file}::{getattr(item, 'originalname', item.name)}" in SLOW:
            item.add_marker(pytest.mark.slow)
        if "chromium" in _fixtures(item):
            item.add_marker(pytest.mark.browser)
        if "postgresql" in {*_fixtures(item), *_parameters(item)}:
            item.add_marker(pytest.mark.postgresql)
        if item.get_closest_marker("soak") and not asked_for_soak:
            item.add_marker(pytest.mark.skip(reason="full-length run: pytest -m soak"))
        if item.get_closest_marker("gpu") and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@cache
def _is_slow(path: str) -> bool:
    return path in SLOW or any(folder.as_posix() in SLOW for folder in PurePosixPath(path).parents)


@cache  # thousands of tests are in hundreds of files
def _relative(path: Path) -> str:
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else path.as_posix()


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _parameters(item: pytest.Item) -> set[str]:
    call = getattr(item, "callspec", None)
    return {value for value in call.params.values() if isinstance(value, str)} if call else set()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
