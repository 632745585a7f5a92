"""The package as a whole: its table of contents, its import time, and that both clients have the same methods."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import lensmount_client
from lensmount_client import (
    Adapters,
    AsyncAdapters,
    AsyncClient,
    AsyncDatasets,
    AsyncJob,
    AsyncJobs,
    AsyncRollouts,
    Client,
    Datasets,
    Job,
    Jobs,
    Rollouts,
)

NOT_ERRORS = {
    "AdapterFile",
    "AdapterId",
    "AdapterInfo",
    "AdapterStats",
    "Adapters",
    "Alias",
    "AliasTrust",
    "AsyncAdapters",
    "AsyncClient",
    "AsyncDatasets",
    "AsyncJob",
    "AsyncJobs",
    "AsyncOutcomes",
    "AsyncPools",
    "AsyncRollouts",
    "AsyncTokens",
    "AuditPage",
    "AuditRecord",
    "Backbone",
    "Canary",
    "ClassResult",
    "Client",
    "Dataset",
    "DatasetId",
    "DatasetReport",
    "DatasetReview",
    "DatasetWarning",
    "Draft",
    "Datasets",
    "Decided",
    "DeletedVersion",
    "DownloadedFile",
    "Evaluation",
    "Explanation",
    "Export",
    "FailedImage",
    "Fallback",
    "Feedback",
    "Gate",
    "Health",
    "ImageInput",
    "ImportReport",
    "Imported",
    "ImportedModule",
    "Integrity",
    "Interval",
    "Job",
    "JobEnd",
    "JobEpoch",
    "JobError",
    "JobEvent",
    "JobFile",
    "JobInfo",
    "JobLog",
    "JobOptions",
    "JobProgress",
    "JobResult",
    "JobState",
    "Jobs",
    "LabelDoubt",
    "LabelInfo",
    "Mask",
    "NextImage",
    "NextImages",
    "Outcome",
    "Outcomes",
    "Pool",
    "Pools",
    "Prediction",
    "PredictionError",
    "Predictions",
    "Problem",
    "Published",
    "PushedAdapter",
    "Quotas",
    "Replaced",
    "RetryPolicy",
    "RightAnswers",
    "Rollout",
    "RolloutComparison",
    "RolloutEvent",
    "RolloutFinding",
    "RolloutLabels",
    "RolloutReport",
    "RolloutSide",
    "Rollouts",
    "Score",
    "Segmentation",
    "Shadow",
    "Taught",
    "TeachProgress",
    "Timeout",
    "Token",
    "TokenSecret",
    "Tokens",
    "Trust",
    "TrustBasis",
    "Unfamiliarity",
    "UnlabelledImage",
    "VersionInfo",
    "WhoAmI",
    "__version__",
}


def test_the_table_of_contents_is_sorted_and_every_name_exists() -> None:
    names = lensmount_client.__all__
    assert names == sorted(names)
    assert all(hasattr(lensmount_client, name) for name in names)


def test_the_public_names_are_these_and_the_complete_error_tree() -> None:
    def tree(error: type[BaseException]) -> set[str]:
        return {error.__name__}.union(*map(tree, error.__subclasses__()))

    assert set(lensmount_client.__all__) == NOT_ERRORS | tree(lensmount_client.LensmountError)


def test_importing_the_client_loads_nothing_heavy_and_works_without_torch() -> None:
    # Without click, as in the base install: where click is installed, httpx itself loads its command line and rich.
    script = (
        "import sys; sys.modules.update(torch=None, click=None); import lensmount_client;"
        "print(sorted({'torch', 'numpy', 'PIL', 'typer', 'rich'} & {m for m in sys.modules if sys.modules[m]}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_client_adds_little_to_the_import_time_of_httpx() -> None:
    script = (
        "import sys, time; sys.modules['click'] = None; import httpx, asyncio, concurrent.futures;"
        "start = time.process_time(); import lensmount_client; print(time.process_time() - start)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5


@pytest.mark.parametrize(
    ("sync", "twin"),
    [
        (Client, AsyncClient),
        (Adapters, AsyncAdapters),
        (Datasets, AsyncDatasets),
        (Jobs, AsyncJobs),
        (Job, AsyncJob),
        (Rollouts, AsyncRollouts),
    ],
)
def test_both_clients_have_the_same_methods_with_the_same_parameters(sync: type, twin: type) -> None:
    def shape(cls: type) -> dict[str, list[tuple[str, object, object]]]:
        methods = {"__init__": cls.__init__, **{n: f for n, f in vars(cls).items() if n[0] != "_"}}  # type: ignore[misc]  # read, not called
        return {
            "close" if name == "aclose" else name: [
                (p.name, p.kind, p.default)
                for p in inspect.signature(function).parameters.values()
                if p.name not in ("sleep", "run", "follow")  # whatever blocks here is awaited there
            ]
            for name, function in methods.items()
            if callable(function)
        }

    assert shape(sync) == shape(twin)
