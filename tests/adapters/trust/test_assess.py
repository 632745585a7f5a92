"""Promises on other images, counted one by one; and thresholds that no image chose for itself."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.adapter.trust import Conformal, Operating, Selective, Trust
from lensmount_adapters.trust.assess import assess, assess_wanted
from lensmount_adapters.trust.figures import figures
from lensmount_adapters.trust.fit import Wanted

TRUTH = np.array([0, 0, 0, 1, 1])
SCORES = np.array([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55]])


def test_five_images_counted_by_hand() -> None:
    trust = Trust(
        conformal=Conformal(coverage=0.9, method="lac", thresholds=(0.5, 0.5), images=(40, 40)),
        selective=Selective(accuracy=0.9, threshold=0.7, share=0.5, images=80),
        operating=Operating(positive="sick", kind="sensitivity", value=0.9, threshold=0.45, images=40),
    )
    found = assess(trust, ("well", "sick"), TRUTH, SCORES)
    assert found["images"] == 5
    assert found["ece"] == pytest.approx(figures(TRUTH, SCORES).ece.value, abs=1e-6)
    assert found["sets"] == {
        "promised": 0.9,
        "coverage": 0.8,
        "classes": {"well": pytest.approx(2 / 3, abs=1e-6), "sick": 1.0},
        "mean_size": 1.0,
        "single": 1.0,
    }
    assert found["accepted"] == {"promised": 0.9, "share": 0.6, "accuracy": pytest.approx(2 / 3, abs=1e-6)}
    assert found["point"] == {
        "positive": "sick",
        "promised": {"sensitivity": 0.9},
        "sensitivity": 1.0,
        "specificity": pytest.approx(1 / 3, abs=1e-6),
    }


def test_what_the_file_does_not_promise_is_none_and_the_figures_are_there() -> None:
    found = assess(None, ("well", "sick"), TRUTH, SCORES)
    assert found["sets"] is found["accepted"] is found["point"] is None
    assert found["brier"] > 0


def test_nothing_accepted_has_no_accuracy() -> None:
    trust = Trust(selective=Selective(accuracy=0.9, threshold=None, share=0.0, images=80))
    assert assess(trust, ("well", "sick"), TRUTH, SCORES)["accepted"] == {
        "promised": 0.9,
        "share": 0.0,
        "accuracy": None,
    }


def test_one_fold_can_say_nothing_of_other_thresholds() -> None:
    found = assess_wanted(("well", "sick"), TRUTH, SCORES, np.zeros(5, np.int64), Wanted())
    assert found == {"sets": None, "accepted": None, "point": None}


def test_other_thresholds_are_chosen_on_the_other_folds() -> None:
    """Scores without any meaning: with thresholds chosen on the same images, accepted answers would look better."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 2_000)
    score = random.uniform(0, 1, 2_000)
    scores = np.stack([1 - score, score], 1)
    wanted = Wanted(coverage=0.9, accuracy=0.45, positive="sick", kind="specificity", value=0.9)
    found = assess_wanted(("well", "sick"), truth, scores, np.arange(2_000) % 4, wanted)
    assert found["sets"]["coverage"] == pytest.approx(0.9, abs=0.02)
    assert found["accepted"]["accuracy"] == pytest.approx(0.5, abs=0.03)
    assert found["point"]["specificity"] == pytest.approx(0.9, abs=0.02)
    assert found["point"]["sensitivity"] == pytest.approx(0.1, abs=0.03)
