"""Promises of a file next to what was measured on the images of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.kept import promises_kept, why_no_promise
from lensmount_adapters.trust.assess import assess

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged, DrawManifest

LABELS = ["no", "yes"]


def figures_of(trust: Trust, scored: ScoredPart) -> dict[str, Any]:
    return assess(trust, LABELS, scored.truth.numpy(), scored.scores.double().numpy())


def assessed(trust: Trust, scored: ScoredPart) -> ScoredPart:
    return replace(scored, assessed=figures_of(trust, scored))


def test_counted_by_hand(promises: Trust, draw_manifest: DrawManifest) -> None:
    truth, yes = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0.1, 0.35, 0.45, 0.9, 0.25, 0.85])
    scores = torch.stack([1 - yes, yes], 1)
    scored = ScoredPart(tuple("abcdef"), truth, scores, measure(truth, scores, LABELS))
    manifest = draw_manifest(LABELS).model_copy(update={"trust": promises})

    ece, sets, open_ended, accepted, point, familiar = promises_kept(manifest, assessed(promises, scored))

    assert ece.promised == "0.020 (95 % interval 0.010 to 0.040), on 90 images kept apart for this"
    # "no" belongs to a set if its score is at least 0.6, "yes" to every set: the images 3 and 4 are not covered
    assert sets.measured.startswith("0.667 (4 of 6;")
    assert "Sets of one label: 0.500 (3 of 6;" in sets.measured
    assert sets.measured.endswith("Labels in a set: 1.50 on average")
    assert (open_ended.about, open_ended.measured) == ("The same for yes (12)", "in every set")
    assert open_ended.promised.startswith("no guarantee: too few images")
    # scores of at least 0.8: images 1, 4 and 6, of which 4 is wrong
    assert accepted.measured.startswith("right: 0.667 (2 of 3;")
    assert "Accepted: 0.500 (3 of 6;" in accepted.measured
    assert point.measured.startswith("0.500 (1 of 2;")
    assert familiar.promised == "those less familiar than 99 % of 90 images held out for this"


def test_the_figures_are_those_of_an_evaluation(
    promises: Trust, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    scored = draw_judged(LABELS, images=300, wrong=40)
    manifest = draw_manifest(LABELS).model_copy(update={"trust": promises})
    found = figures_of(promises, scored)

    ece, sets, _, accepted, point, _ = promises_kept(manifest, assessed(promises, scored))

    assert ece.measured.startswith(f"{found['ece']:.3f} (95 % interval {found['ece_interval'][0]:.3f}")
    assert sets.measured.startswith(f"{found['sets']['coverage']:.3f} (")
    assert f"Accepted: {found['accepted']['share']:.3f} (" in accepted.measured
    assert f"right: {found['accepted']['accuracy']:.3f} (" in accepted.measured
    assert point.measured.startswith(f"{found['point']['sensitivity']:.3f} (")


def test_what_cannot_be_promised_is_said(promises: Trust, draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    assert promises.selective is not None
    assert promises.operating is not None
    open_ended = Trust(
        selective=promises.selective.model_copy(update={"threshold": None}),
        operating=promises.operating.model_copy(update={"threshold": None}),
    )

    scored = draw_judged(LABELS)
    manifest = draw_manifest(LABELS).model_copy(update={"trust": open_ended})
    rows = promises_kept(manifest, assessed(open_ended, scored))

    assert [row.promised for row in rows] == [
        "cannot be promised: 90 images are too few or too hard",
        "0.98 cannot be promised: 60 images are too few",
    ]


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ({"source": None, "why": "too few images: 7 of oak."}, "right: too few images: 7 of oak."),
        (None, "right."),
        ({"why": 7}, "right."),
    ],
)
def test_a_file_without_promises_says_why(recorded: object, words: str, draw_manifest: DrawManifest) -> None:
    manifest = draw_manifest(LABELS)
    manifest = manifest.model_copy(update={"training": {**manifest.training, "calibration": recorded}})

    assert why_no_promise(manifest) == f"This file does not promise how often its answers are {words}"


def test_a_file_with_promises_needs_no_excuse(promises: Trust, draw_manifest: DrawManifest) -> None:
    assert why_no_promise(draw_manifest(LABELS).model_copy(update={"trust": promises})) == ""


def test_without_figures_the_promises_are_listed_as_not_measured(
    promises: Trust, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    manifest = draw_manifest(LABELS).model_copy(update={"trust": promises})
    for scored in (draw_judged(LABELS), None):
        rows = promises_kept(manifest, scored)
        assert [row.measured for row in rows if row.measured != "in every set"] == ["not measured here"] * 5

    assert promises_kept(draw_manifest(LABELS), draw_judged(LABELS)) == []
