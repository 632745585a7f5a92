"""Programs are compiled once, in the background, and dropped together with those derived from them."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import pytest
from torch import Tensor

from lensmount_adapters.machine import LOW
from lensmount_adapters.runners import hot_programs
from lensmount_adapters.runners.hot_programs import HotPrograms

PATIENCE_S = 60.0  # the longest wait for the background thread, in a test that fails


@dataclass
class Program:
    nbytes: int = 10

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


@pytest.fixture
def programs() -> Iterator[HotPrograms]:
    programs = HotPrograms(max_bytes=100)
    for key in "abcd":
        programs.cache.pin(key)  # admitted without any use
    yield programs
    programs.close()


def test_a_program_is_made_once_and_then_found(programs: HotPrograms) -> None:
    made: list[str] = []
    program, may_end = Program(), threading.Event()

    def compile_it() -> Program:
        made.append(threading.current_thread().name)
        assert may_end.wait(PATIENCE_S)
        return program

    for _ in range(3):
        programs.make("a", compile_it)  # returns at once, so also while the first is being compiled
    may_end.set()
    programs.settle()
    programs.make("a", compile_it)
    programs.settle()

    assert programs.cache.get("a") is program
    assert len(made) == 1
    assert made[0] != threading.current_thread().name


def test_a_program_that_is_given_up_while_it_is_compiled_is_not_kept(programs: HotPrograms) -> None:
    may_end = threading.Event()

    def compile_it() -> Program:
        assert may_end.wait(PATIENCE_S)
        return Program()

    programs.make("a", compile_it)
    programs.give_up("a")
    may_end.set()
    programs.settle()

    assert programs.cache.get("a") is None
    assert programs.cache.nbytes == 0


def test_a_program_that_nobody_will_need_is_not_compiled_after_all(programs: HotPrograms) -> None:
    may_end, compiled = threading.Event(), []

    def slow() -> Program:
        assert may_end.wait(PATIENCE_S)
        return Program()

    def compile_it() -> Program:
        compiled.append("b")
        return Program()

    programs.make("a", slow)
    programs.make("b", compile_it)  # waits
    programs.retire("b")
    may_end.set()
    programs.settle()

    assert compiled == []
    assert programs.cache.get("a") is not None
    programs.retire("a")
    assert programs.cache.get("a") is not None  # until others need its memory


def test_programs_are_made_behind_the_threads_that_answer(programs: HotPrograms) -> None:
    niceness: list[int] = []

    def compile_it() -> Program:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return Program()

    programs.make("a", compile_it)
    programs.settle()

    if sys.platform == "linux":
        assert niceness == [max(LOW, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))]


def test_derived_programs_are_given_up_with_the_one_they_come_from(programs: HotPrograms) -> None:
    def derived(key: Hashable) -> tuple[Hashable, ...]:
        return ("b",) if key == "a" else ()

    programs.derive(derived)
    for key in ("b", "c"):
        programs.make(key, Program)
    programs.settle()
    assert programs.is_hot("a")  # by its derived program
    assert not programs.is_hot("d")

    programs.give_up("a")

    assert not programs.is_hot("a")
    assert programs.is_hot("c")


def test_an_error_is_logged_and_the_program_can_be_made_again(
    programs: HotPrograms, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Program:
        raise RuntimeError("no compiler")

    with caplog.at_level(logging.ERROR):
        programs.make("a", fail)
        programs.settle()
    assert "no compiler" in caplog.text

    programs.make("a", Program)
    programs.settle()
    assert programs.cache.get("a") is not None


def test_after_closing_nothing_more_is_made(programs: HotPrograms) -> None:
    programs.close()

    programs.make("a", Program)

    assert programs.cache.get("a") is None


def test_a_program_that_fails_again_and_again_is_tried_ever_less_often() -> None:
    now, tried = [0.0], []

    def fail() -> Program:
        tried.append(now[0])
        raise RuntimeError("CUDA out of memory")

    programs = HotPrograms(max_bytes=100, clock=lambda: now[0])
    for second in range(20):
        now[0] = float(second)
        for _ in range(3):  # of many batches
            programs.make("a", fail)
            programs.settle()
    assert tried == [0, 0, 1, 3, 7, 15]

    programs.give_up("a")  # it left memory, and comes back
    programs.make("a", Program)
    programs.settle()
    assert "a" in programs.cache
    programs.close()


@pytest.mark.parametrize(("seconds", "thread"), [(0.0, "lensmount-prepare"), (0.01, "lensmount-measure")])
def test_work_at_leisure_is_done_in_a_thread_that_makes_nobody_wait(
    seconds: float, thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_programs, "LEISURE_S", seconds)
    programs, done, names = HotPrograms(0), threading.Event(), []

    def work() -> None:
        names.append(threading.current_thread().name)
        done.set()

    programs.at_leisure(work)
    assert done.wait(20)
    programs.close()
    assert names[0].startswith(thread)
