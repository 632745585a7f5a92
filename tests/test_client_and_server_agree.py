"""What the client and the server must both know is compared here, and with docs/, so that neither changes alone."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fastapi.sse import EventSourceResponse

import lensmount_client
from lensmount_adapters import errors as adapters
from lensmount_adapters.cli import terminal
from lensmount_adapters.foreign.report import MatchReport
from lensmount_adapters.training import loop as run
from lensmount_adapters.training.schedule import EpochRecord
from lensmount_client._api import jobs as _calls_jobs
from lensmount_client._api import masks as _calls_masks
from lensmount_client._api import read, read_jobs
from lensmount_client._api import rollouts as _rollout_calls
from lensmount_client._api import upload as _upload
from lensmount_client._cli import rollouts as _rollouts_cli
from lensmount_client._errors import CLASS_OF_CODE, CLASS_OF_STATUS
from lensmount_client._http import response as _response
from lensmount_client._resources import job_events as _event_feed
from lensmount_client._types import jobs as _job_info
from lensmount_client._types import predictions as _predictions
from lensmount_client._types import results as _results
from lensmount_client._types import rollouts as _rollouts
from lensmount_service import errors as service
from lensmount_service import rollout_spec
from lensmount_service.jobs import phases, records
from lensmount_service.jobs.files import MEDIA_TYPES
from lensmount_service.rollouts import schemas as rollout_schemas
from lensmount_service.routes import jobs as job_routes
from lensmount_service.settings import Settings
from lensmount_service.web import job_schemas, negotiation, problems, schemas
from lensmount_service.web.problems import CODES
from lensmount_service.worker import attempt as job_run
from lensmount_service.worker import gate

ROOT = Path(__file__).parent.parent


@cache  # a second, which no process needs that only collects the tests
def sources() -> dict[Path, ast.Module]:
    return {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for package in ("service/lensmount_service", "adapters/lensmount_adapters")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


# Error codes: where every code of a server's class, and of the classes below it, belongs in the client.
PARENTS = {
    service.RequestError: "ProblemError",  # its subclasses have statuses of their own
    service.BodyTooLarge: "TooLarge",
    service.MultipartMalformed: "BadRequest",
    service.MediaTypeUnsupported: "Unsupported",
    service.RequestInvalid: "Unprocessable",
    service.NotAcceptable: "NotAcceptable",
    service.NotFound: "NotFound",
    service.VersionDeleted: "Gone",
    service.DatasetInUse: "Conflict",
    service.NotADraft: "Conflict",
    service.NameTaken: "Conflict",
    service.UploadOffsetMismatch: "Conflict",
    service.JobConflict: "Conflict",
    service.Unauthorized: "Unauthorized",
    service.Forbidden: "Forbidden",
    service.HostNotAllowed: "HostNotAllowed",
    service.PreconditionFailed: "PreconditionFailed",
    service.QueueFull: "Busy",
    service.Unavailable: "Unavailable",
    service.Unusable: "Unusable",
    service.DeadlineExceeded: "DeadlineExceeded",
    service.StorageFull: "StorageFull",
    adapters.ExplainError: "Unprocessable",
    adapters.AdapterUnsupported: "Unsupported",
    adapters.AdapterTooLarge: "AdapterTooLarge",
    adapters.AdapterMalformed: "AdapterMalformed",
    adapters.AdapterInvalid: "AdapterRejected",
    adapters.BackboneMismatch: "Conflict",
    adapters.ExportError: "Unprocessable",
    adapters.ImageUnsupported: "UnsupportedImageFormat",
    adapters.ImageTooLarge: "ImageTooLarge",
    adapters.ImageInvalid: "ImageRejected",
    adapters.SwapError: "Unavailable",
    adapters.IntegrityError: "Unavailable",
    adapters.DatasetTooLarge: "TooLarge",
    adapters.ArchiveInvalid: "DatasetRejected",
    adapters.TrainingError: "Unprocessable",
}


def classes(base: type[Any]) -> list[type[Any]]:
    return [base, *(finer for kind in base.__subclasses__() for finer in classes(kind))]


ERRORS = {kind.__name__: kind for kind in [*classes(service.ServiceError), *classes(adapters.LensmountError)]}


def declared(kind: type[Any]) -> set[str]:
    return {kind.default_code, *vars(kind).get("finer_codes", ())}


def texts(node: ast.AST) -> list[str]:
    """The texts that an expression may have as its value: one, or both of `a if test else b`."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def test_the_client_knows_every_code_of_the_server_and_no_other() -> None:
    assert set(CLASS_OF_CODE) == set(CODES)


def test_the_class_of_a_code_lies_under_the_class_of_its_status() -> None:
    for code, status in CODES.items():
        assert issubclass(CLASS_OF_CODE[code], CLASS_OF_STATUS.get(status, lensmount_client.ServerFailed)), code


@pytest.mark.parametrize("kind", PARENTS, ids=lambda kind: kind.__name__)
def test_what_is_one_kind_of_error_in_the_server_is_one_kind_in_the_client(kind: Any) -> None:
    parent = getattr(lensmount_client, PARENTS[kind])
    for finer in classes(kind):
        for code in declared(finer):
            assert issubclass(CLASS_OF_CODE[code], parent), f"{finer.__name__}: {code}"


def test_every_error_class_that_reaches_the_wire_has_its_place_in_the_client() -> None:
    assert set(PARENTS) | {adapters.DatasetError} >= {kind for kind in problems.STATUS if kind.__name__ in ERRORS}
    for code in declared(adapters.DatasetError):  # not its subclasses: a dataset that is too large is 413
        assert issubclass(CLASS_OF_CODE[code], lensmount_client.DatasetRejected)


def test_the_table_in_the_docs_has_every_code_at_its_status() -> None:
    table = re.findall(r"^\| ([0-9, ]+?)(?:, an? \w+|, the \w+)? \| (.*) \|$", section("docs/api.md", "Errors"), re.M)
    documented = {
        code: {int(status) for status in statuses.split(", ")}
        for statuses, codes in table
        for code in re.findall(r"`([a-z_]+)`", codes.replace("with `received`", ""))
    }
    assert set(documented) == set(CODES)
    for code, status in CODES.items():
        assert status in documented[code], code


def section(path: str, title: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


# Jobs


def test_the_states_of_a_job() -> None:
    assert set(_job_info.STATES) == set(records.STATES) == set(typing.get_args(records.State))
    assert set(_job_info.ENDED) == records.ENDED


def test_the_phases_of_a_running_job_in_their_order() -> None:
    assert _job_info.PHASES == phases.PHASES
    assert _job_info.TRAINING == run.PHASES
    assert _job_info.AFTER_TRAINING == phases.AFTER_TRAINING
    documented = re.search(r"`phase` is ([^.]*)\.", section("docs/jobs.md", "Jobs"))
    assert documented is not None
    assert tuple(re.findall(r"`(\w+)`", documented[1])) == phases.PHASES
    assert set(terminal._PHASES) == set(run.PHASES)


def test_a_worker_names_no_phase_but_these_and_in_this_order() -> None:
    told = [
        text
        for node in ast.walk(sources()[Path(job_run.__file__)])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._set_phase"
        for text in texts(node.args[0])
    ]
    assert told == list(phases.AFTER_TRAINING)
    trained = {
        text
        for path, tree in sources().items()
        if "lensmount_adapters" in path.parts
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "phase"
        for text in texts(node.value)
    }
    assert trained - {"epoch"} <= set(run.PHASES)  # "epoch" is a word of the progress bar


def test_the_kinds_of_events() -> None:
    stored = set(typing.get_args(typing.get_type_hints(records.Event)["kind"]))
    streamed = {
        text
        for node in ast.walk(ast.parse(inspect.getsource(job_routes)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ServerSentEvent"
        for word in node.keywords
        if word.arg == "event"
        for text in texts(word.value)
    }
    assert set(read_jobs.EVENTS) == stored | streamed
    documented = re.search(r"server-sent events: (.*) \|", (ROOT / "docs/api.md").read_text(encoding="utf-8"))
    assert documented is not None
    assert set(re.findall(r"`(\w+)`", documented[1])) == stored | streamed


def test_the_media_type_of_a_stream_of_events() -> None:
    assert EventSourceResponse.media_type == _event_feed.EVENT_STREAM


def test_the_files_of_a_job_have_names_that_the_client_takes() -> None:
    assert [_calls_jobs.checked_file(name) for name in MEDIA_TYPES] == list(MEDIA_TYPES)


def test_an_idempotency_key_is_the_same_for_both() -> None:
    parameter = re.search(r'alias="Idempotency-Key", pattern=r"\^(.*?)\$"', inspect.getsource(job_routes))
    assert parameter is not None
    for key in ("a", "!~", "a b", "", "x" * 128, "x" * 129, "é", "a\n", "\x7f"):
        assert bool(re.fullmatch(parameter[1], key)) == bool(_calls_jobs.KEY.fullmatch(key)), repr(key)


# Documents


def fields(kind: type[Any]) -> set[str]:
    return set(getattr(kind, "model_fields", None) or (field.name for field in dataclasses.fields(kind)))


@pytest.mark.parametrize(
    ("client", "server", "only_client", "only_server"),
    [
        (_job_info.JobInfo, job_schemas.JobInfo, {"raw"}, set()),
        (_job_info.JobFile, job_schemas.JobFileInfo, set(), set()),
        (_job_info.JobError, job_schemas.JobError, set(), set()),
        (_job_info.DatasetId, job_schemas.DatasetRef, set(), set()),
        (_job_info.JobEpoch, EpochRecord, set(), set()),
        (_job_info.Gate, gate.Verdict, set(), set()),
        (_results.AdapterId, schemas.AdapterRef, set(), set()),
        (_results.Backbone, schemas.BackboneInfo, set(), set()),
        (_predictions.Score, schemas.LabelScore, set(), set()),
        (_predictions.Prediction, schemas.Prediction, {"error"}, set()),  # the server has FailedResult
        (_results.AdapterInfo, schemas.AdapterDetail, set(), {"tier"}),
        (_results.VersionInfo, schemas.VersionDetail, set(), set()),
        (_results.Alias, schemas.AliasInfo, set(), set()),
        (_rollouts.Rollout, rollout_schemas.RolloutState, set(), set()),
        (_rollouts.RolloutSide, rollout_schemas.SideReport, set(), set()),
        (_rollouts.RolloutLabels, rollout_schemas.Labelled, set(), set()),
        (_rollouts.RightAnswers, rollout_schemas.LabelledSide, set(), set()),
        (_rollouts.RolloutFinding, rollout_schemas.RuleFinding, set(), set()),
        (_rollouts.RolloutEvent, rollout_schemas.RolloutEventInfo, set(), set()),
        (_rollouts.RolloutReport, rollout_schemas.RolloutReport, {"raw"}, set()),
        (_results.Imported, schemas.Imported, set(), set()),
        (_results.ImportReport, schemas.ImportReport, set(), set()),
        (_results.ImportedModule, schemas.ImportedModule, set(), set()),
        (_results.ImportReport, MatchReport, set(), set()),
        (lensmount_client.Mask, schemas.Mask, set(), set()),
        (lensmount_client.Dataset, schemas.DatasetInfo, {"raw", "left_out", "notes"}, set()),
        (lensmount_client.Problem, schemas.Problem, {"retry_after_s", "errors", "limit", "more"}, {"type"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_document_has_the_same_fields_on_both_sides(
    client: Any, server: Any, only_client: Any, only_server: Any
) -> None:
    assert fields(client) - fields(server) == only_client
    assert fields(server) - fields(client) == only_server


def test_the_progress_of_a_job_has_the_same_fields_on_both_sides() -> None:
    written = next(
        node
        for node in ast.walk(ast.parse(inspect.getsource(job_run)))
        if isinstance(node, ast.Dict)
        and "seconds_left" in [text for key in node.keys if key for text in texts(key)]
        and len(node.keys) > 3
    )
    assert {text for key in written.keys if key for text in texts(key)} == fields(_job_info.JobProgress)


def test_the_rules_of_a_rollout_and_which_of_them_are_only_on_or_off() -> None:
    assert list(_rollouts_cli.RULES) == [field.name for field in dataclasses.fields(rollout_spec.Rules)]
    switches = [field.name for field in dataclasses.fields(rollout_spec.Rules) if isinstance(field.default, bool)]
    assert list(_rollouts_cli.SWITCHES) == switches


@pytest.mark.parametrize(
    "key",
    [
        *("request", "client", "header:X-Patient", "header:a!#$%&'*+.^_`|~-9", f"header:{'a' * 64}"),
        *(
            "",
            "patient",
            "header:",
            "header:a b",
            "header:ä",
            f"header:{'a' * 65}",
            "client\n",
            "Request",
            "header:a:b",
        ),
    ],
)
def test_the_key_of_a_canary_is_the_same_for_both(key: str) -> None:
    assert bool(_rollout_calls.KEY.fullmatch(key)) == bool(re.fullmatch(rollout_spec.KEY.rstrip("$"), key))


# Media types, headers and sizes


def test_the_media_types_of_masks() -> None:
    assert (_calls_masks.PNG, _calls_masks.GEOJSON) == (negotiation.PNG, negotiation.GEOJSON)


def test_a_chunk_of_an_upload_fits_into_what_the_server_takes() -> None:
    assert Settings.model_fields["max_upload_chunk_bytes"].default >= _upload.CHUNK_BYTES


HEADERS = {"x-request-id", "etag", "retry-after", "content-type", "location"}  # that the client reads


def test_each_header_that_the_client_reads_is_one_that_the_server_writes() -> None:
    client = {
        name
        for path in (ROOT / "client" / "lensmount_client").rglob("*.py")
        for name in re.findall(r'headers\.get\("([^"]+)"', path.read_text(encoding="utf-8"))
    }
    assert client == HEADERS
    server = {
        node.value.lower()
        for path, tree in sources().items()
        if "lensmount_service" in path.parts
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert client - {"content-type"} <= server  # Starlette writes the content type


@pytest.mark.parametrize("name", ["Idempotency-Key", "Last-Event-ID"])
def test_each_header_that_the_client_sends_is_one_that_the_server_reads(name: str) -> None:
    sources = "".join(inspect.getsource(module) for module in (_calls_jobs, _event_feed))
    assert f'"{name}"' in sources
    assert f'alias="{name}"' in inspect.getsource(job_routes)


def test_a_chunk_says_where_it_belongs_in_the_words_that_the_server_reads() -> None:
    from lensmount_client._api import datasets as _calls_datasets
    from lensmount_service.routes.datasets import parse_content_range

    written = re.search(r'"Content-Range": f"(.*?)"', inspect.getsource(_calls_datasets))
    assert written is not None
    assert parse_content_range(written[1].format(first=5, last=9, total=20)) == (5, 9, 20)


def test_the_etag_that_the_server_writes_is_the_digest_that_the_client_reads() -> None:
    digest = "sha256:" + "0a" * 32
    response = _response.Response(200, {"etag": f'"{digest}"'}, b"")
    assert read.etag_of(response) == digest
