"""Adapters that are requested together get one program with their factors as constants, and the same answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import Costs, Group, LinearCost
from lensmount_adapters.runners.fused import (
    FIRST_TRIES,
    MEASURE_AGAIN_AFTER,
    STEADY_BATCHES,
    FusedGroup,
    FusedGroups,
    fused_is_cheaper,
)
from lensmount_adapters.runners.segment_runner import SegmentRunner

FREE, DEAR, NEVER = LinearCost(0.0, 0.0), LinearCost(1e9, 1e9), LinearCost(1e18, 1e18)
ExecutorOf = Callable[..., Executor]
Ask = Callable[..., list[Any]]
Check = Callable[..., None]
GivenCosts = Callable[..., Any]


def group_of(runner: SegmentRunner) -> FusedGroup | None:
    """The fused group of the runner's only cut."""
    (split,) = runner.splits
    fused = runner.shortcuts["fused"]
    assert isinstance(fused, FusedGroups)
    return fused.branch(split).group


@pytest.mark.parametrize("name", ["eager float32", "eager bfloat16", "openvino float32", "openvino bfloat16"])
def test_adapters_that_come_together_get_one_program_with_the_same_answers(
    name: str,
    backbone: Backbone,
    same_cut: list[Adapter],
    executor_of: ExecutorOf,
    given_costs: GivenCosts,
    questions: Ask,
    check: Check,
) -> None:
    """Mode "mixed" where two programs run in turn; "whole" where the executor joins them into one."""
    expected, precision = "whole" if name.startswith("openvino") else "mixed", name.split()[1]
    asked = questions(same_cut, 10)
    runner = SegmentRunner(backbone, executor_of(name), max_batch=8, book=given_costs(hot=DEAR, mixed=NEVER))
    for _ in range(STEADY_BATCHES + FIRST_TRIES + 6):
        runner.scores(asked)
        runner.settle()
    assert group_of(runner) in runner.programs.cache

    outcome = runner.scores(asked)
    assert outcome.modes == {expected: 10}
    check(asked, outcome.scores, precision)
    few = [asked[3], asked[1], asked[6]]  # some of them, in another order, one twice
    outcome = runner.scores(few)
    assert outcome.modes == {expected: 3}
    check(few, outcome.scores, precision)
    assert "mixed" not in runner.scores(asked[:1]).modes  # one alone: the same bits whatever was requested before
    assert runner.changed() == []
    runner.close()


def test_a_fused_program_that_seemed_too_dear_is_measured_again(
    backbone: Backbone, adapters: list[Adapter], executor_of: ExecutorOf, given_costs: GivenCosts, questions: Ask
) -> None:
    runner = SegmentRunner(backbone, executor_of(), book=given_costs(hot=FREE, mixed=NEVER))
    asked = questions(adapters[:2], 2, size=32)
    for _ in range(STEADY_BATCHES + 2):
        runner.settle()
        if runner.scores(asked).modes == {"mixed": 2}:  # nothing but a fused program computes in this mode here
            break

    tries = [runner.scores(asked).modes for _ in range(FIRST_TRIES - 1)]
    without = [runner.scores(asked).modes for _ in range(MEASURE_AGAIN_AFTER)]
    again = [runner.scores(asked).modes for _ in range(FIRST_TRIES)]
    after = runner.scores(asked).modes
    runner.close()

    assert tries == [{"mixed": 2}] * (FIRST_TRIES - 1)
    assert without == [{"hot": 2}] * MEASURE_AGAIN_AFTER
    assert again == [{"mixed": 2}] * FIRST_TRIES
    assert after == {"hot": 2}


def test_a_group_changes_with_the_requests_and_holds_one_hot_slot(
    backbone: Backbone,
    adapters: list[Adapter],
    draw_adapter: Callable[..., Any],
    executor_of: ExecutorOf,
    questions: Ask,
    check: Check,
) -> None:
    runner = SegmentRunner(backbone, executor_of(), max_batch=3)
    first, second, third = (adapters[n] for n in (0, 1, 3))
    newcomer = admit(draw_adapter(backbone, seed=50, method="lora", modules=r"layer4.*", rank=4).dump(), backbone)

    def come(*them: Adapter) -> None:
        for _ in range(STEADY_BATCHES + 2):
            runner.scores(questions(them, len(them)))
            runner.settle()

    come(first, second, third)
    before = group_of(runner)
    assert before is not None
    assert {member.digest for member in before.members} == {first.digest, second.digest, third.digest}
    come(first, second)
    assert group_of(runner) is before  # the third keeps its slot: it costs nothing
    come(second, newcomer)
    after = group_of(runner)
    assert after is not None
    assert after is not before
    assert newcomer.digest in {member.digest for member in after.members}
    assert before not in runner.programs.cache
    assert after in runner.programs.cache

    asked = questions([second, newcomer], 4)
    check(asked, runner.scores(asked).scores)
    runner.close()


def test_changing_adapters_are_not_fused_and_nothing_is_without_memory(
    backbone: Backbone, adapters: list[Adapter], executor_of: ExecutorOf, questions: Ask
) -> None:
    crowded = SegmentRunner(backbone, executor_of(), max_batch=2)
    for turn in range(2 * STEADY_BATCHES):  # three take turns in two slots
        crowded.scores(questions([adapters[(0, 1, 3)[(turn + n) % 3]] for n in range(2)], 2))
    assert group_of(crowded) is None
    crowded.close()

    poor = SegmentRunner(backbone, executor_of(), hot_bytes=0)
    for _ in range(STEADY_BATCHES + 2):
        poor.scores(questions(adapters[:2], 2))
        poor.settle()
    assert poor.nbytes() == {"hot": 0}
    poor.close()


def test_a_runner_that_is_told_to_do_without_makes_no_fused_program(
    backbone: Backbone, adapters: list[Adapter], executor_of: ExecutorOf, given_costs: GivenCosts, questions: Ask
) -> None:
    book = given_costs(hot=DEAR, mixed=NEVER)
    runner = SegmentRunner(backbone, executor_of(), book=book, shortcuts=("end-to-end",))
    asked = questions(adapters[:2], 2)
    modes = []
    for _ in range(STEADY_BATCHES + 4):
        modes.append(set(runner.scores(asked).modes))
        runner.settle()
    runner.close()

    assert {"mixed"} not in modes


def test_a_fused_run_is_tried_and_then_used_if_it_is_cheaper() -> None:
    costs = Costs(
        hot=LinearCost(0.0005, 0.001),
        merged=LinearCost(0.002, 0.0015),
        merge=0.003,
        mixed=LinearCost(0.004, 0.002),
        pack=0.0002,
        slots=4,
    )
    groups = [Group(2, hot=True, mixable=True), Group(1, hot=False, mixable=True)]  # alone 2.5 + 6.5 ms
    for fused, cheaper in ((None, True), (LinearCost(0.003, 0.0019), True), (LinearCost(0.003, 0.0021), False)):
        assert fused_is_cheaper(fused, costs, groups) is cheaper
        assert not fused_is_cheaper(fused, costs, groups[:1])
