"""Promises in lines for a terminal: what is said of each, and of what cannot be promised."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.trust import Calibration, Conformal, Operating, Selective, Trust
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.promises import kept, summary, thresholds
from lensmount_adapters.trust.assess import assess

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged, DrawManifest

FIGURES: dict[str, Any] = {"ece": 0.021, "adaptive_ece": 0.03, "brier": 0.05, "log_loss": 0.1}
INTERVALS: dict[str, Any] = {f"{name}_interval": (value / 2, 2 * value) for name, value in FIGURES.items()}
TRUST = Trust(
    calibration=Calibration(images=196, source="cross-fitted", temperature=1.25, **FIGURES, **INTERVALS),
    conformal=Conformal(coverage=0.95, method="lac", thresholds=(0.4, None), images=(180, 16)),
    selective=Selective(accuracy=0.99, threshold=0.83, share=0.845, images=196),
    operating=Operating(positive="oak", kind="sensitivity", value=0.98, threshold=0.25, images=180),
)


def assessed(manifest: Manifest, scored: ScoredPart) -> ScoredPart:
    found = assess(manifest.trust, manifest.labels, scored.truth.numpy(), scored.scores.double().numpy())
    return replace(scored, assessed=found)


def test_the_promises_fit_on_one_line(draw_manifest: DrawManifest) -> None:
    manifest = draw_manifest(["oak", "elm"]).model_copy(update={"trust": TRUST})
    assert summary(manifest) == (
        "calibration error 0.021 (0.011 to 0.042) on 196 images, sets of labels for 95 % in 1 of 2 classes, "
        "84.5 % of answers accepted at 99 %"
    )


def test_answers_that_cannot_be_accepted_are_said(draw_manifest: DrawManifest) -> None:
    none = TRUST.model_copy(update={"selective": Selective(accuracy=0.99, threshold=None, share=0.0, images=34)})
    manifest = draw_manifest(["oak", "elm"]).model_copy(update={"trust": none})
    assert summary(manifest).endswith("no answer accepted at 99 %")


@pytest.mark.parametrize("knows_unfamiliar", [False, True])
def test_a_file_without_promises_says_why(knows_unfamiliar: bool, promises: Trust, draw_manifest: DrawManifest) -> None:
    manifest = draw_manifest(["oak", "elm"])
    reason = {"calibration": {"source": None, "why": "too few images: found 3 training images of oak"}}
    trust = Trust(familiarity=promises.familiarity) if knows_unfamiliar else None
    few = manifest.model_copy(update={"training": manifest.training | reason, "trust": trust})
    assert summary(few) == (
        "This file does not promise how often its answers are right: too few images: found 3 training images of oak."
    )


def test_how_promises_were_kept_is_counted_on_the_images(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    manifest, scored = draw_manifest(["oak", "elm"]).model_copy(update={"trust": TRUST}), draw_judged(["oak", "elm"])
    lines = kept(assessed(manifest, scored).assessed or {})
    taken = scored.scores.amax(1) >= 0.83
    right = scored.scores.argmax(1) == scored.truth
    share, accuracy = float(taken.double().mean()), float(right[taken].double().mean())
    assert lines[2] == (
        f"Accepted at 99 %: {100 * share:.3g} % of the answers, of which {100 * accuracy:.3g} % were right."
    )
    assert lines[0].startswith("Expected calibration error 0.")
    assert "Brier score" in lines[0]
    called = scored.scores[:, 0] >= 0.25
    sensitivity = float(called[scored.truth == 0].double().mean())
    assert lines[3].startswith(f"oak as positive: sensitivity {100 * sensitivity:.3g} %, specificity ")
    assert len(kept(assessed(draw_manifest(["oak", "elm"]), scored).assessed or {})) == 1


def test_nothing_accepted_and_nothing_positive_read_well() -> None:
    none = {"promised": 0.99, "share": 0.0, "accuracy": None}
    point = {"positive": "oak", "promised": {"sensitivity": 0.9}, "sensitivity": None, "specificity": 1.0}
    assert thresholds({"sets": None, "accepted": none, "point": point}) == [
        "Accepted at 99 %: 0 % of the answers.",
        "oak as positive: sensitivity none to count, specificity 100 %.",
    ]
