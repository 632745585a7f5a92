"""Which label is the positive one, at which threshold, and its figures in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from sklearn import metrics as sk

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.context import ReportContext
from lensmount_adapters.report.point import Point, point_of
from lensmount_adapters.report.record import read_record

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawManifest

LABELS = ["no", "yes"]
TRUTH = torch.tensor([0] * 6 + [1] * 4)
YES = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.4, 0.6, 0.2, 0.35, 0.7, 0.9])
SCORED = ScoredPart(
    tuple("abcdefghij"), TRUTH, torch.stack([1 - YES, YES], 1), measure(TRUTH, torch.stack([1 - YES, YES], 1), LABELS)
)


def point(manifest: Manifest, **context: Any) -> Point | None:
    return point_of(manifest, read_record(manifest), SCORED, ReportContext(**context))


def recorded(manifest: Manifest, positive: object, prevalence: object = None) -> Manifest:
    training = {**manifest.training, "hyper_parameters": {"positive": positive}, "card": {"prevalence": prevalence}}
    return manifest.model_copy(update={"training": training})


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_the_figures_are_those_of_scikit_learn_at_the_threshold_of_the_file(
    threshold: float | None, promises: Trust, draw_manifest: DrawManifest
) -> None:
    manifest = recorded(draw_manifest(LABELS), "yes")
    if threshold is not None:
        manifest = manifest.model_copy(update={"trust": promises})

    found = point(manifest)

    assert found is not None
    called = torch.ge(YES, threshold or 0.5)
    report = sk.classification_report(TRUTH, called, output_dict=True)
    shown = {name: figure for name, figure, _ in found.rows()}
    assert shown["sensitivity"].startswith(f"{report['1']['recall']:.3f} ({int(called[6:].sum())} of 4;")
    assert shown["specificity"].startswith(f"{report['0']['recall']:.3f} ({int((~called[:6]).sum())} of 6;")
    assert shown["PPV"].startswith(f"{report['1']['precision']:.3f} (")
    assert shown["NPV"].startswith(f"{report['0']['precision']:.3f} (")
    words = "is at least 0.300." if threshold else "is the highest, which is above 0.5."
    assert found.rule == f"An image is called yes if the score of yes {words}"


def test_what_is_asked_for_now_goes_before_what_the_file_says(promises: Trust, draw_manifest: DrawManifest) -> None:
    manifest = recorded(draw_manifest(LABELS), "yes", 0.1).model_copy(update={"trust": promises})

    found, other = point(manifest), point(manifest, positive="no", prevalence=0.3)

    assert found is not None
    assert other is not None
    assert (found.diagnostic.positive, found.diagnostic.threshold, found.prevalence) == ("yes", 0.3, 0.1)
    assert (other.diagnostic.positive, other.diagnostic.threshold, other.prevalence) == ("no", None, 0.3)
    assert len(found.rows()) == 6
    assert found.to_json()["at_prevalence"]["prevalence"] == 0.1


@pytest.mark.parametrize("positive", [None, "maybe", 7, ""])
def test_without_a_positive_label_of_the_adapter_there_is_none(positive: object, draw_manifest: DrawManifest) -> None:
    assert point(recorded(draw_manifest(LABELS), positive)) is None
