"""What the methods of a client return."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from lensmount_client import AdapterFile, AdapterId, Backbone, DownloadedFile, Prediction, Score


def test_the_top_of_a_prediction_is_its_first_and_best_class() -> None:
    scores = (Score("parasitized", 0.9), Score("uninfected", 0.1))
    prediction = Prediction(scores, AdapterId("malaria", 1, "sha256:0"), Backbone("tiny", "sha256:1"), "r-1", {})
    assert prediction.top == Score("parasitized", 0.9)
    assert prediction.label == "parasitized"


def test_a_prediction_that_abstains_has_no_label_and_its_top_says_why() -> None:
    names = AdapterId("malaria", 1, "sha256:0"), Backbone("tiny", "sha256:1")
    prediction = Prediction((), *names, "r-1", {}, abstained="it is not sure")
    with pytest.raises(LookupError, match=r"found no label: it is not sure. Fix: read `prediction.label`"):
        _ = prediction.top
    assert prediction.label is None  # what the advice reads


def test_results_cannot_be_changed_and_are_equal_by_value() -> None:
    one = AdapterId("malaria", 1, "sha256:0")
    assert one == AdapterId("malaria", 1, "sha256:0")
    assert len({one, AdapterId("malaria", 1, "sha256:0"), AdapterId("malaria", 2, "sha256:0")}) == 2
    with pytest.raises(FrozenInstanceError):
        one.version = 2  # type: ignore[misc]  # the refusal is the test


def test_a_pulled_adapter_is_a_downloaded_file() -> None:
    assert isinstance(AdapterFile(Path("a"), "sha256:0", 7), DownloadedFile)
