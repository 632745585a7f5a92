"""Where the time of a batch goes, told only for batches with a traced image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, ExactSwapper, load_backbone
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.runners.stages import UNWATCHED, Stage, Stopwatch, of_each_item, watch_of


@dataclass
class Traced:
    adapter: Adapter
    image: torch.Tensor
    traced: bool = True


def test_a_stopwatch_measures_each_stage_and_what_it_was_for() -> None:
    watch = Stopwatch(torch.device("cpu"))
    before = time.perf_counter()
    with watch.stage("trunk", (item for item in (0, 1))):
        pass
    with watch.stage("branch", [1], "hot"):
        pass
    trunk, branch = watch.stages
    assert (trunk.name, trunk.items, trunk.mode) == ("trunk", frozenset({0, 1}), "")
    assert (branch.name, branch.items, branch.mode) == ("branch", frozenset({1}), "hot")
    assert before <= trunk.started <= trunk.ended <= branch.started <= branch.ended <= time.perf_counter()


def test_a_stage_that_fails_is_not_told() -> None:
    watch = Stopwatch(torch.device("cpu"))
    with pytest.raises(ValueError, match="broken"), watch.stage("branch", [0]):
        raise ValueError("broken")
    assert watch.stages == []


def test_nothing_is_measured_unless_an_item_is_traced() -> None:
    items = [Traced(None, torch.zeros(1), traced=traced) for traced in (False, False)]  # type: ignore[arg-type]
    assert watch_of(items, torch.device("cpu")) is UNWATCHED
    items[1].traced = True
    assert isinstance(watch_of(items, torch.device("cpu")), Stopwatch)

    def never() -> Any:
        raise AssertionError("read in vain")
        yield 0

    with UNWATCHED.stage("trunk", never()):
        pass
    assert UNWATCHED.stages == ()


def test_each_item_has_its_own_stages_behind_its_time_in_the_queue() -> None:
    trunk, branch = Stage("trunk", 2.0, 3.0, frozenset({0, 1, 2})), Stage("branch", 3.0, 4.0, frozenset({1}), "hot")
    first, second, third = of_each_item([trunk, branch], [1.0, 1.0, 1.5], 2.0)
    assert [stage.name for stage in second] == ["queue", "trunk", "branch"]
    assert (first[0].started, first[0].ended, third[0].started) == (1.0, 2.0, 1.5)
    assert first[0] is second[0]  # of one request
    assert [list(map(id, stages[1:])) for stages in (first, third)] == [[id(trunk)], [id(trunk)]]
    assert of_each_item([], [1.0, 1.0], 2.0) == [(), ()]


def told(stages: Any) -> set[tuple[str, str, frozenset[int]]]:
    return {(stage.name, stage.mode, stage.items) for stage in stages}


def test_the_stages_of_a_batch_lie_one_after_the_other_within_its_time(
    backbone: Backbone, adapters: list[Adapter], questions: Callable[..., Any], executor_of: Callable[..., Executor]
) -> None:
    runner = SegmentRunner(backbone, executor_of(), hot_bytes=0)
    asked = [Traced(each.adapter, each.image) for each in questions(adapters[:2], 4)]
    try:
        plain = runner.scores(questions(adapters[:2], 4))
        started = time.perf_counter()
        outcome = runner.scores(asked)
        ended = time.perf_counter()
    finally:
        runner.close()

    assert plain.stages == ()
    stages = sorted(outcome.stages, key=lambda stage: stage.started)
    assert {"trunk", "branch", "head"} <= {stage.name for stage in stages}
    moments = [moment for stage in stages for moment in (stage.started, stage.ended)]
    assert moments == sorted(moments)
    assert started <= moments[0] <= moments[-1] <= ended
    for name in ("branch", "head"):
        assert {item for stage in stages if stage.name == name for item in stage.items} == {0, 1, 2, 3}
    assert {stage.mode for stage in stages if stage.name == "branch"} <= {"merged", "mixed", "hot"}


def test_a_runner_that_merges_in_place_tells_the_switch_and_the_whole_network(
    adapters: list[Adapter], questions: Callable[..., Any]
) -> None:
    own = load_backbone("resnet10t", "random:0")
    runner = MergedRunner(own, ExactSwapper(own))
    outcome = runner.scores([Traced(each.adapter, each.image) for each in questions(adapters[:1], 2)])
    assert told(outcome.stages) == {("swap", "", frozenset({0, 1})), ("branch", "merged", frozenset({0, 1}))}
    runner.rest()
