"""One image's decision: unfamiliar before uncertain before accept, with the adapter's thresholds or an operator's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lensmount_adapters import Backbone
from lensmount_adapters.adapter.trust import Conformal, Trust
from lensmount_adapters.trust.judge import Overrides, judge

LABELS = ("no", "yes")


@pytest.fixture
def trust(small_backbone: Backbone, draw_adapter: Callable[..., Any], draw_trust: Callable[..., Any]) -> Trust:
    """Accepts from 0.8 on; flags from the 99th percentile on; "no" needs 0.6, and "yes" is in every set."""
    block: Trust = draw_trust(small_backbone, draw_adapter(small_backbone))[0].trust
    return block


@pytest.mark.parametrize(
    ("scores", "percentile", "decision"),
    [
        ((0.9, 0.1), 50.0, "accept"),
        ((0.8, 0.2), None, "accept"),
        ((0.79, 0.21), 50.0, "uncertain"),
        ((0.9, 0.1), 99.0, "unfamiliar"),
        ((0.5, 0.5), 100.0, "unfamiliar"),
        ((0.9, 0.1), 98.9, "accept"),
    ],
)
def test_an_image_is_unfamiliar_before_it_is_uncertain(
    trust: Trust, scores: tuple[float, float], percentile: float | None, decision: str
) -> None:
    assert judge(trust, LABELS, scores, percentile).decision == decision


def test_an_operator_s_thresholds_replace_the_adapter_s(trust: Trust) -> None:
    strict, lax = Overrides(accept_confidence=0.95), Overrides(accept_confidence=0.4, unfamiliar_percentile=100.0)
    assert judge(trust, LABELS, (0.9, 0.1), None, strict).decision == "uncertain"
    assert judge(trust, LABELS, (0.5, 0.5), 99.5, lax).decision == "accept"
    assert judge(trust, LABELS, (0.9, 0.1), 40.0, Overrides(unfamiliar_percentile=30.0)).decision == "unfamiliar"


def test_without_a_threshold_an_answer_is_accepted_if_its_set_has_one_label(trust: Trust) -> None:
    assert trust.selective is not None
    sets = Conformal(coverage=0.9, method="lac", thresholds=(0.4, 0.4), images=(50, 50))
    none = trust.selective.model_copy(update={"threshold": None})
    for selective in (none, None):
        block = trust.model_copy(update={"selective": selective, "conformal": sets})
        for scores, labels, decision in (
            ((0.9, 0.1), ("no",), "accept"),
            ((0.5, 0.5), (), "uncertain"),
            ((0.6, 0.6), ("no", "yes"), "uncertain"),
        ):
            found = judge(block, LABELS, scores)
            assert (found.labels, found.decision) == (labels, decision)
    assert judge(Trust(calibration=trust.calibration), LABELS, (0.5, 0.5)).decision == "accept"  # nothing to go by


def test_the_answer_has_the_fields_of_the_interface(trust: Trust) -> None:
    found = judge(trust, LABELS, (0.9, 0.1), 12.5).to_json()
    assert json.loads(json.dumps(found)) == {
        "decision": "accept",
        "confidence": 0.9,
        "set": ["no", "yes"],
        "unfamiliarity": {"percentile": 12.5, "flag": False},
        "calibration": {"images": 90, "ece": 0.02, "coverage": 0.95},
    }
    bare = judge(Trust(familiarity=trust.familiarity), LABELS, (0.9, 0.1)).to_json()
    assert bare == {"decision": "accept", "confidence": 0.9, "set": None, "unfamiliarity": None, "calibration": None}
