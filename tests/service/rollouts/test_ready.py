from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lensmount_adapters.runners.runner import Runner
from lensmount_service.errors import Unusable
from lensmount_service.rollouts.ready import MOST, RETRY_S, Ready
from lensmount_service.store.catalog import Snapshot

if TYPE_CHECKING:
    from tests.service.conftest import Until


class Slow:
    """A runner whose programs take until `gate` opens; `made` has what was made, `merged` what was to be merged."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.made: list[str] = []
        self.merged: list[str] = []

    def prefetch(self, adapter: Any) -> None:
        self.merged.append(adapter)

    def ready(self, adapter: Any) -> bool:
        return adapter in self.made

    def prepare(self, adapter: Any) -> None:
        assert self.gate.wait(30)
        self.made.append(adapter)


@pytest.fixture
def runner() -> Slow:
    return Slow()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def ready(runner: Slow, clock: list[float]) -> Iterator[Ready]:
    ready = Ready(cast(Runner, runner), lambda: clock[0])
    yield ready
    runner.gate.set()
    ready.close()


def of(adapter: str) -> Callable[[], Snapshot]:
    return lambda: cast(Snapshot, SimpleNamespace(adapter=adapter))


def broken() -> Snapshot:
    raise Unusable("the file is damaged", code="adapter_corrupt")


def test_a_candidate_is_ready_once_its_program_is_made_and_it_is_made_once(
    ready: Ready, runner: Slow, until: Until
) -> None:
    for _ in range(5):
        ready.begin("r1", 8, of("a"))  # returns although the program is not made
    assert (ready.has("r1", 8), ready.trouble("r1", 8)) == (False, None)
    runner.gate.set()
    until(lambda: ready.has("r1", 8))
    ready.begin("r1", 8, broken)
    assert (runner.made, ready.has("r1", 8), ready.has("r1", 9), ready.has("r2", 8)) == (["a"], True, False, False)


def test_a_candidate_that_cannot_be_prepared_is_tried_again_later(
    ready: Ready, runner: Slow, clock: list[float], until: Until
) -> None:
    runner.gate.set()
    ready.begin("r1", 8, broken)
    until(lambda: ready.trouble("r1", 8) is not None)
    assert ready.trouble("r1", 8) == "adapter_corrupt"
    ready.begin("r1", 8, of("a"))  # too soon
    clock[0] = RETRY_S
    ready.begin("r1", 9, of("b"))
    until(lambda: ready.has("r1", 9))
    assert runner.made == ["b"]
    ready.begin("r1", 8, of("a"))
    until(lambda: ready.has("r1", 8))
    assert ready.trouble("r1", 8) is None


def test_a_candidate_that_fails_later_is_prepared_again(
    ready: Ready, runner: Slow, clock: list[float], until: Until
) -> None:
    ready.mark("r1", 8)
    ready.fail("r1", 8, "adapter_quarantined")
    assert (ready.has("r1", 8), ready.trouble("r1", 8)) == (False, "adapter_quarantined")
    runner.gate.set()
    clock[0] += RETRY_S
    ready.begin("r1", 8, of("a"))
    until(lambda: ready.has("r1", 8))


def test_whatever_the_network_raises_is_a_failure_of_the_candidate(ready: Ready, until: Until) -> None:
    def breaks() -> Snapshot:
        raise ValueError("a shape")

    ready.begin("r1", 8, breaks)
    until(lambda: ready.trouble("r1", 8) == "forward_failed")


def test_only_so_many_candidates_are_known(ready: Ready) -> None:
    for number in range(MOST + 3):
        ready.mark(f"r{number}", 1)
    assert [ready.has(f"r{number}", 1) for number in (0, 2, 3, MOST + 2)] == [False, False, True, True]


def test_a_server_that_is_stopping_prepares_nothing_more(ready: Ready, runner: Slow) -> None:
    ready.close()
    ready.begin("r1", 8, of("a"))
    assert not ready.has("r1", 8)


def test_preparing_tells_what_is_wrong_with_the_candidate(ready: Ready, runner: Slow) -> None:
    with pytest.raises(Unusable):
        ready.prepare(broken)
    runner.gate.set()
    ready.prepare(of("a"))
    ready.prepare(of("a"))
    assert (runner.made, set(runner.merged)) == (["a"], {"a"})
