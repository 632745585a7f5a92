from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lensmount_adapters.runners.runner import Runner
from lensmount_service.errors import Unusable
from lensmount_service.rollouts.ready import MOST, PATIENCE_S, RETRY_S, InsteadOf, Ready, until_made
from lensmount_service.store.catalog import Snapshot

if TYPE_CHECKING:
    from tests.service.conftest import Until


class Slow:
    """A runner whose programs take until `gate` opens; `made` has what was made, `merged` what was to be merged."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.made: list[str] = []
        self.merged: list[str] = []
        self.expected: list[tuple[str | None, float]] = []
        self.retired: list[str] = []
        self.program: Future[None] = Future()  # done when what is prefetched is made
        self.program.set_result(None)

    def prefetch(self, adapter: Any, like: str | None = None, share: float = 1.0) -> Future[None]:
        self.merged.append(adapter)
        self.expected.append((like, share))
        return self.program

    def retire(self, digest: str) -> None:
        self.retired.append(digest)

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


def test_a_candidate_gets_no_request_before_its_program_is_made(ready: Ready, runner: Slow, until: Until) -> None:
    runner.gate.set()
    runner.program = Future()
    ready.begin("r1", 8, of("a"), InsteadOf("sha256:stable", 0.1))
    until(lambda: runner.merged == ["a"])
    assert not ready.has("r1", 8)
    runner.program.set_result(None)
    until(lambda: ready.has("r1", 8))
    assert runner.expected == [("sha256:stable", 0.1)]


def test_a_server_that_stops_does_not_wait_for_programs(ready: Ready, runner: Slow, until: Until) -> None:
    runner.gate.set()
    runner.program = Future()  # never done
    ready.begin("r1", 8, of("a"))
    until(lambda: runner.merged == ["a"])
    ready.close()  # would otherwise wait for `PATIENCE_S`, and does not return before the thread has ended
    assert PATIENCE_S > 1


def test_whoever_waits_for_programs_goes_on_once_all_are_made() -> None:
    programs: list[Future[None]] = [Future(), Future()]

    async def made() -> bool:
        waiting = asyncio.ensure_future(until_made(programs))
        programs[0].set_result(None)
        await asyncio.sleep(0)
        before = waiting.done()
        programs[1].set_result(None)
        await waiting
        return before

    assert not asyncio.run(made())


def test_a_version_that_lost_is_retired(ready: Ready, runner: Slow) -> None:
    ready.retire("sha256:lost")
    assert runner.retired == ["sha256:lost"]
