"""An adapter or a fused group that fills batches alone gets one program from images to features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.fused import FIRST_TRIES, STEADY_BATCHES, FusedGroups
from lensmount_adapters.runners.segment_runner import SegmentRunner

LONE_IMAGES = 16  # more than it takes to get an end-to-end program
DEAR, NEVER = LinearCost(1e9, 1e9), LinearCost(1e18, 1e18)
Ask = Callable[..., list[Any]]
Check = Callable[..., None]
Make = Callable[..., SegmentRunner]


@pytest.fixture
def make(backbone: Backbone, executor_of: Callable[..., Executor]) -> Iterator[Make]:
    """`make(hot_bytes=...)`: a runner on the executor that joins programs."""
    runners: list[SegmentRunner] = []

    def make(**options: Any) -> SegmentRunner:
        runners.append(SegmentRunner(backbone, executor_of("openvino float32"), max_batch=8, **options))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def test_an_adapter_that_is_requested_alone_gets_one_program_with_the_same_answers(
    make: Make,
    backbone: Backbone,
    adapters: list[Adapter],
    draw_adapter: Callable[..., Any],
    questions: Ask,
    check: Check,
) -> None:
    runner = make()
    parts = draw_adapter(backbone, seed=60, modules=r"layer4.*")
    parts.manifest["preprocessing"]["orientations"] = 4
    turned = admit(parts.dump(), backbone)
    for adapter in (adapters[0], turned):
        asked = questions([adapter], 3)
        assert "whole" not in runner.scores(asked).modes
        for _ in range(LONE_IMAGES):
            for few in (asked, asked[:1]):  # single images have a program of their own
                runner.scores(few)
                runner.settle()

        for few in (asked, asked[1:2], [asked[2], asked[0]]):
            outcome = runner.scores(few)
            assert outcome.modes == {"whole": len(few)}
            check(few, outcome.scores)
        assert runner.tier(adapter.digest) == "hot"

    asked = questions([adapters[0], adapters[1]], 4)
    outcome = runner.scores(asked)
    assert "whole" not in outcome.modes  # the adapters share nothing but the trunk
    check(asked, outcome.scores)
    held = runner.nbytes()["hot"]
    runner.forget(adapters[0].digest)
    assert runner.tier(adapters[0].digest) is None
    assert runner.nbytes()["hot"] < held
    assert runner.changed() == []


def test_a_fused_group_gets_one_program_once_it_is_measured_but_shared_images_go_through_the_trunk_once(
    make: Make,
    same_cut: list[Adapter],
    given_costs: Callable[..., Any],
    questions: Ask,
    question: Callable[..., Any],
    check: Check,
) -> None:
    runner = make(book=given_costs(hot=DEAR, mixed=NEVER))
    asked = questions(same_cut, 10)

    def modes(batches: int) -> list[dict[str, int]]:
        seen = []
        for _ in range(batches):
            seen.append(runner.scores(asked).modes)
            runner.settle()
        return seen

    seen = modes(STEADY_BATCHES + FIRST_TRIES + 6)
    assert seen[-1] == {"whole": 10}
    assert seen[: seen.index({"whole": 10})].count({"mixed": 10}) >= FIRST_TRIES  # only the branch can be measured
    for few in (asked, asked[2:6]):
        outcome = runner.scores(few)
        assert outcome.modes == {"whole": len(few)}
        check(few, outcome.scores)
    shared = [question(adapter, asked[0].image) for adapter in same_cut]
    outcome = runner.scores(shared)
    assert "whole" not in outcome.modes
    check(shared, outcome.scores)

    fused = runner.shortcuts["fused"]
    assert isinstance(fused, FusedGroups)
    held = runner.nbytes()["hot"]
    runner.programs.give_up(fused.branch(runner.splits[0]).group)
    assert runner.nbytes()["hot"] < held
    outcome = runner.scores(asked)
    assert "whole" not in outcome.modes
    check(asked, outcome.scores)
    runner.settle()
    assert modes(FIRST_TRIES) == [{"mixed": 10}] * FIRST_TRIES  # the new program is measured again
    assert {"whole": 10} in modes(6)


def test_an_end_to_end_program_is_evicted_for_an_adapter_that_is_not_hot(
    make: Make, adapters: list[Adapter], questions: Ask
) -> None:
    def ask_alone(runner: SegmentRunner, adapter: Adapter) -> None:
        for _ in range(LONE_IMAGES):
            runner.scores(questions([adapter], 1))
            runner.settle()

    ample = make()
    ask_alone(ample, adapters[0])
    both = ample.nbytes()["hot"] + ample.splits[0].hot_nbytes

    runner = make(hot_bytes=both - 1)  # two hot adapters fit, or one and its end-to-end program
    ask_alone(runner, adapters[0])
    assert runner.scores(questions(adapters[:1], 1)).modes == {"whole": 1}
    ask_alone(runner, adapters[1])

    assert [runner.tier(adapter.digest) for adapter in adapters[:2]] == ["hot", "hot"]
    assert runner.scores(questions(adapters[:1], 1)).modes == {"hot": 1}


def test_a_runner_that_is_told_to_do_without_makes_no_end_to_end_program(
    make: Make, adapters: list[Adapter], questions: Ask, check: Check
) -> None:
    runner = make(shortcuts=("fused",))
    asked = questions(adapters[:1], 3)
    for _ in range(LONE_IMAGES):
        runner.scores(asked)
        runner.settle()

    outcome = runner.scores(asked)
    assert outcome.modes == {"hot": 3}
    check(asked, outcome.scores)
