"""One row for each image and adapter of an archive: the columns of `lensmount batch`, which a test compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lensmount_service.routes.archives.request import Asked
from lensmount_service.routes.outcomes import Result
from lensmount_service.web.schemas import FailedResult, ImagePrediction

COLUMNS = (
    *("file", "adapter", "label", "score", "scores", "decision", "confidence", "set", "percentile"),
    *("error", "detail", "version", "digest", "fingerprint"),
)


def rows_of(file: str, results: Sequence[Result], adapters: Sequence[Asked]) -> list[dict[str, Any]]:
    """The rows of one image. `results` are in the order of the adapters."""
    return [_row(file, result, asked) for result, asked in zip(results, adapters, strict=True)]


def _row(file: str, result: Result, asked: Asked) -> dict[str, Any]:
    found = {**dict.fromkeys(COLUMNS), "file": file, "adapter": asked.asked}
    found |= {"version": result.adapter.version, "digest": result.adapter.digest}
    if isinstance(result, FailedResult):
        return found | {"error": result.error.code, "detail": result.error.detail}
    best = result.predictions[0]
    found |= {"label": best.label, "score": best.score, "fingerprint": result.backbone.fingerprint}
    found["scores"] = {each.label: each.score for each in result.predictions}
    trust = result.trust if isinstance(result, ImagePrediction) else None
    if trust is not None:
        found |= {"decision": trust.decision, "confidence": trust.confidence, "set": trust.set}
        found["percentile"] = None if trust.unfamiliarity is None else trust.unfamiliarity.percentile
    return found
