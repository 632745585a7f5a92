"""The module of each public name, which is imported when the name is first used (PEP 562).

The command line needs none of them to show its help, and httpx alone takes longer to import than the help takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

ERRORS = "_errors"  # the module of every public name that is not listed here
NAMES = {  # repeats the imports of __init__.py for the running program; a test compares the two
    "_api.explanation": "Explanation",
    "_api.segmentation": "Mask Segmentation",
    "_async_client": "AsyncClient",
    "_client": "Client",
    "_http.retry": "RetryPolicy",
    "_http.settings": "Timeout",
    "_resources.adapters": "Adapters AsyncAdapters",
    "_resources.datasets": "AsyncDatasets Datasets",
    "_resources.job": "AsyncJob Job",
    "_resources.jobs": "AsyncJobs Jobs",
    "_resources.many": "AsyncOutcomes Outcome Outcomes",
    "_resources.pools": "AsyncPools Pools",
    "_resources.rollouts": "AsyncRollouts Rollouts",
    "_resources.tokens": "AsyncTokens Tokens",
    "_types.access": "AuditPage AuditRecord Quotas Token TokenSecret WhoAmI",
    "_types.datasets": "Dataset DatasetReport DatasetWarning Draft Feedback LabelInfo NextImage NextImages Pool "
    "Published UnlabelledImage",
    "_types.ended": "JobCancelled JobEnded JobFailed NotPublished",
    "_types.evaluation": "ClassResult Decided Evaluation FailedImage Interval",
    "_types.inputs": "ImageInput",
    "_types.job_options": "JobOptions",
    "_types.jobs": "DatasetId Gate JobEnd JobEpoch JobError JobEvent JobFile JobInfo JobLog JobProgress JobResult "
    "JobState Replaced",
    "_types.predictions": "Fallback Prediction PredictionError Predictions Score",
    "_types.results": "AdapterFile AdapterId AdapterInfo AdapterStats Alias AliasTrust Backbone DeletedVersion "
    "DownloadedFile Export Health Imported ImportedModule ImportReport Integrity PushedAdapter VersionInfo",
    "_types.reviews": "DatasetReview LabelDoubt",
    "_types.rollouts": "Canary RightAnswers Rollout RolloutComparison RolloutEvent RolloutFinding RolloutLabels "
    "RolloutReport RolloutSide Shadow",
    "_types.taught": "Taught TeachProgress",
    "_types.trust": "Trust TrustBasis Unfamiliarity",
    "_version": "__version__",
}


def lazy_names(package: str, public: Sequence[str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of the package with these public names."""
    module_of = dict.fromkeys(public, ERRORS)
    module_of |= {name: module for module, names in NAMES.items() for name in names.split()}

    def getter(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return getter, lambda: sorted(module_of)
