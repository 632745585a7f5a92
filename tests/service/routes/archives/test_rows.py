"""Rows of an archive: the columns of the client, filled from answers."""

from __future__ import annotations

from typing import Any

from lensmount_client._types.batch import BATCH_COLUMNS
from lensmount_service.routes.archives.request import Asked
from lensmount_service.routes.archives.rows import COLUMNS, rows_of
from lensmount_service.web.schemas import FailedResult, ImagePrediction

ADAPTER = {"name": "cells", "version": 2, "digest": "sha256:" + "2" * 64}
ASKED = Asked("cells:prod", "cells", 2, str(ADAPTER["digest"]))
IMAGE = {"index": 0, "name": "a.png"}


def answered(**more: Any) -> ImagePrediction:
    timing = dict.fromkeys(("queue", "decode", "swap", "forward", "total"), 1.0)
    scores = [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}]
    backbone = {"name": "n", "fingerprint": "sha256:f"}
    told = {"adapter": ADAPTER, "backbone": backbone, "predictions": scores, "request_id": "r", "timing_ms": timing}
    return ImagePrediction.model_validate({**told, "image": IMAGE, "trust": None, "abstained": None, **more})


def test_the_columns_are_those_of_the_client() -> None:
    assert COLUMNS == BATCH_COLUMNS
    (row,) = rows_of("a.png", [answered()], [ASKED])
    assert tuple(row) == COLUMNS


def test_an_answer_fills_scores_and_trust() -> None:
    trust = {"decision": "accept", "confidence": 0.75, "set": ["a"], "calibration": None}
    (row,) = rows_of("a.png", [answered(trust=trust | {"unfamiliarity": {"percentile": 12.0, "flag": False}})], [ASKED])
    assert row == {
        **{"file": "a.png", "adapter": "cells:prod", "label": "a", "score": 0.75, "scores": {"a": 0.75, "b": 0.25}},
        **{"decision": "accept", "confidence": 0.75, "set": ["a"], "percentile": 12.0, "error": None, "detail": None},
        **{"version": 2, "digest": ADAPTER["digest"], "fingerprint": "sha256:f"},
    }


def test_a_failure_has_its_code_and_no_label() -> None:
    error = {"status": 422, "code": "image_invalid", "detail": "no image"}
    failed = FailedResult.model_validate({"adapter": ADAPTER, "image": IMAGE, "error": error})
    (row,) = rows_of("a.png", [failed], [ASKED])
    assert (row["error"], row["detail"], row["label"], row["version"]) == ("image_invalid", "no image", None, 2)
