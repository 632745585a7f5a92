"""What is wrong with a rollout is said before anything is sent, and the advice works."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lensmount_client import InvalidInput
from lensmount_client._api.rollouts import Wanted, start
from lensmount_client._http.operation import run_operation


def test_the_body_has_what_was_asked_for_and_nothing_else() -> None:
    assert Wanted(canary=8, percent=10).body(7) == {
        "stable": 7,
        "canary": {"version": 8, "percent": 10.0, "key": "request"},
    }
    assert Wanted(shadow=9, sample=0.2, rules={"p99": 3}).body(7) == {
        "stable": 7,
        "shadow": {"version": 9, "sample": 0.2},
        "rules": {"p99": 3},
    }


WRONG: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({}, "neither a canary nor a shadow", {"shadow": 9}),
    ({"canary": 8}, "percent: found none, expected 0 to 100", {"canary": 8, "percent": 10}),
    ({"percent": 10}, "percent: found no canary for it", {"percent": 10, "canary": 8}),
    ({"canary": 0, "percent": 10}, "version: found 0", {"canary": 1, "percent": 10}),
    *(
        ({"canary": 8, "percent": percent}, "expected 0 to 100", {"canary": 8, "percent": 100})
        for percent in (-1, 100.5, math.nan, True, "10")
    ),
    *(
        ({"shadow": 9, "sample": sample}, "expected 0 to 1", {"shadow": 9, "sample": 1})
        for sample in (-0.1, 1.5, math.nan, True, "all")
    ),
    *(
        ({"canary": 8, "percent": 10, "key": key}, "expected request, client or header:NAME", {"shadow": 9})
        for key in ("patient", "header:", "header:a b", "header:a\n", "", None)
    ),
]


@pytest.mark.parametrize(("options", "message", "fixed"), WRONG)
def test_a_rollout_that_cannot_be_is_refused_with_a_way_out(
    options: dict[str, Any], message: str, fixed: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        next(start("malaria", "prod", Wanted(**options)))
    assert Wanted(**fixed).body(7)["stable"] == 7


def test_rules_that_are_not_json_are_refused() -> None:
    class Present:
        version, etag = 7, ""

    for rules in ({"p99": math.inf}, {"p99": object()}):
        with pytest.raises(InvalidInput, match="rules: found a value that is not JSON"):
            run_operation(start("malaria", "prod", Wanted(shadow=9, rules=rules)), lambda call: Present())  # type: ignore[arg-type]  # the first answer alone
