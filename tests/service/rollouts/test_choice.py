"""The choice of a version: which requests belong to a canary, and that one which cannot answer gets none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest
from starlette.datastructures import Headers

from lensmount_adapters.runners.runner import Runner
from lensmount_service.rollout_spec import Canary, Rollout, Shadow, Side, share
from lensmount_service.rollouts.choice import Choice, Keys, place_of
from lensmount_service.rollouts.ready import Ready
from lensmount_service.store.catalog import Snapshot

ROLLOUT = Rollout("1" * 32, 7, Canary(8, 10), salt="s3")
_numbers = itertools.count()


class Told:
    """A witness that remembers."""

    def __init__(self) -> None:
        self.refusals: list[tuple[Side, str]] = []
        self.without_key = 0

    def refused(self, rollout: Rollout, side: Side, code: str) -> None:
        self.refusals.append((side, code))

    def unkeyed(self, rollout: Rollout) -> None:
        self.without_key += 1


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def choice(told: Told) -> Iterator[Choice]:
    ready = Ready(cast(Runner, None))
    yield Choice(ready, told)
    ready.close()


def keys(request: str = "", client: str = "", **headers: str) -> Keys:
    return Keys(request or f"request-{next(_numbers)}", client, Headers(headers))


def never() -> Snapshot:
    raise AssertionError("the canary is ready already")


def test_of_ten_thousand_requests_a_tenth_gets_a_canary_of_10_percent(choice: Choice) -> None:
    choice.ready.mark(ROLLOUT.id, 8)
    taken = [choice.choose(ROLLOUT, keys(f"request-{number}"), never) for number in range(10_000)]
    assert 910 <= taken.count(8) <= 1090
    assert taken.count(7) + taken.count(8) == 10_000
    expected = [8 if share("s3", f"request-{number}") < 0.1 else 7 for number in range(10_000)]
    assert taken == expected


def test_the_key_is_the_request_the_client_or_a_header(choice: Choice) -> None:
    choice.ready.mark(ROLLOUT.id, 8)
    by = {key: replace(ROLLOUT, canary=Canary(8, 50, key)) for key in ("request", "client", "header:Patient-Id")}
    for number in range(50):
        asked = keys(f"r{number}", f"c{number % 3}", **{"patient-id": f"p{number % 5}"})
        texts = {"request": f"r{number}", "client": f"c{number % 3}", "header:Patient-Id": f"p{number % 5}"}
        for key, rollout in by.items():
            assert choice.choose(rollout, asked, never) == (8 if share("s3", texts[key]) < 0.5 else 7)


def test_without_the_header_the_stable_version_answers_and_that_is_counted(choice: Choice, told: Told) -> None:
    choice.ready.mark(ROLLOUT.id, 8)
    rollout = replace(ROLLOUT, canary=Canary(8, 100, "header:Patient"))
    assert choice.choose(rollout, keys(), never) == 7
    assert choice.choose(rollout, keys(patient=""), never) == 7
    assert choice.choose(rollout, keys(patient="x"), never) == 8
    assert told.without_key == 2


def test_a_canary_that_is_not_ready_gets_no_request_and_is_prepared(choice: Choice, told: Told) -> None:
    asked: list[str] = []

    def resolve() -> Snapshot:
        asked.append("canary")
        raise AssertionError("it cannot be read")

    rollout = replace(ROLLOUT, canary=Canary(8, 100))
    assert {choice.choose(rollout, keys(), resolve) for _ in range(20)} == {7}
    choice.ready.close()  # ends when what began has ended
    assert asked == ["canary"]


def test_a_canary_that_cannot_answer_is_told_for_each_request_that_belongs_to_it(choice: Choice, told: Told) -> None:
    choice.ready.mark(ROLLOUT.id, 8)
    rollout = replace(ROLLOUT, canary=Canary(8, 100))
    choice.failed(rollout, 8, "adapter_corrupt")
    assert [choice.choose(rollout, keys(), never) for _ in range(3)] == [7, 7, 7]
    assert told.refusals == [("canary", "adapter_corrupt")] * 4
    assert choice.choose(replace(rollout, canary=Canary(8, 0)), keys(), never) == 7
    assert len(told.refusals) == 4


def test_a_shadow_alone_never_answers(choice: Choice) -> None:
    choice.ready.mark(ROLLOUT.id, 9)
    assert choice.choose(replace(ROLLOUT, canary=None, shadow=Shadow(9)), keys(), never) == 7


def test_a_key_has_a_place_if_it_is_why_a_version_answers() -> None:
    rollout = replace(ROLLOUT, canary=Canary(8, 50, "client"))
    chosen = 8 if rollout.takes("c1") else 7
    assert place_of(rollout, keys(client="c1"), chosen) == share("s3", "c1")
    assert place_of(rollout, keys(client="c1"), 15 - chosen) is None  # the canary was not ready
    assert place_of(replace(ROLLOUT, canary=Canary(8, 50, "header:Patient")), keys(), 7) is None
    assert place_of(replace(ROLLOUT, canary=None, shadow=Shadow(9)), keys(), 7) is None
