"""The wire types of trust: what an adapter promises, and thresholds that mean something."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from lensmount_adapters import parse_adapter
from lensmount_adapters.trust.judge import Judgement, Overrides
from lensmount_service.web.trust_schemas import AliasTrust, Promises, TrustInfo

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeTrusted


def test_get_shows_what_an_adapter_promises_and_to_whom_it_does_not(
    shared_client: TestClient, make_trusted: MakeTrusted
) -> None:
    assert shared_client.put("/adapters/sure", content=make_trusted()).status_code == 201
    shown = shared_client.get("/adapters/sure").json()["trust"]

    assert shown["sets"] == {"coverage": 0.95, "guaranteed": ["no"], "no_guarantee": ["yes"]}
    assert (shown["calibration"]["images"], shown["calibration"]["ece"]) == (90, 0.02)
    assert shown["calibration"]["ece_interval"] == [0.01, 0.04]
    assert shown["selective"] == {"accuracy": 0.99, "threshold": 0.8, "share": 0.7, "images": 90}
    assert (shown["operating"]["positive"], shown["operating"]["threshold"]) == ("yes", 0.3)
    assert shown["familiarity"] == {"images": 90, "flag": 99.0}
    listed = {adapter["name"]: adapter["trust"] for adapter in shared_client.get("/adapters").json()["adapters"]}
    assert listed == {"cells": None, "tiles": None, "sure": shown}
    assert shared_client.get("/adapters/sure/versions/1").json()["trust"] == shown
    shared_client.delete("/adapters/sure")


def test_a_part_that_was_not_measured_is_null(make_trusted: MakeTrusted, make_adapter: MakeAdapter) -> None:
    missing = {"calibration": None, "conformal": None, "operating": None, "familiarity": None}
    promised = Promises.of(parse_adapter(make_trusted(**missing)).manifest)
    assert promised is not None
    assert [name for name, part in promised if part is not None] == ["selective"]
    assert Promises.of(parse_adapter(make_adapter(1)).manifest) is None


def test_thresholds_go_to_the_judge_and_back() -> None:
    for overrides in (Overrides(0.5), Overrides(None, 99.5), Overrides(0, 100)):
        shown = AliasTrust.of(overrides)
        assert shown is not None
        assert shown.overrides() == overrides
    assert AliasTrust.of(Overrides()) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 1.01, "1", True])
def test_a_confidence_is_a_number_from_0_to_1(value: Any) -> None:
    with pytest.raises(ValidationError):
        AliasTrust(accept_confidence=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, 100.01, "99", True])
def test_a_percentile_is_a_number_above_0_to_100(value: Any) -> None:
    with pytest.raises(ValidationError):
        AliasTrust(unfamiliar_percentile=value)


def test_a_score_that_rounds_to_more_than_1_is_1() -> None:
    judgement = Judgement("accept", 1.0000001, ("a",), 50.0, False, 90, 0.02, None)
    assert TrustInfo.of(judgement).model_dump() == {
        "decision": "accept",
        "confidence": 1.0,
        "set": ["a"],
        "unfamiliarity": {"percentile": 50.0, "flag": False},
        "calibration": {"images": 90, "ece": 0.02, "coverage": None},
    }
