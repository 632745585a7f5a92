"""Each way to compute a batch gives the mean over space of the activations at the cut, and only to whom it concerns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.fused import FIRST_TRIES, STEADY_BATCHES
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.swap.exact import ExactSwapper

FREE, DEAR, NEVER = LinearCost(0.0, 0.0), LinearCost(1e9, 1e9), LinearCost(1e18, 1e18)
BOUNDS = {"float32": 1e-4, "bfloat16": 0.02}
LONE_IMAGES = 16  # more than it takes to get an end-to-end program
ExecutorOf = Callable[..., Executor]
Ask = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def pooled64(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """The mean over space of layer3's output, by plain torch in float64 on the untouched backbone."""
    module = load_backbone(backbone.name, "random:0").module.double()
    seen: list[Tensor] = []
    module.get_submodule("layer3").register_forward_hook(lambda m, i, o: seen.append(o))

    def compute(image: Tensor) -> Tensor:
        with torch.no_grad():
            module(image.double()[None])
        return seen.pop().mean((2, 3))[0]

    return compute


@pytest.fixture(scope="session")
def check_pooled(pooled64: Callable[[Tensor], Tensor]) -> Callable[..., None]:
    def compare(asked: Sequence[Any], pooled: Sequence[Tensor | None], precision: str = "float32") -> None:
        for each, vector in zip(asked, pooled, strict=True):
            expected = pooled64(each.image)
            assert vector is not None
            assert vector.dtype is torch.float32
            assert (vector - expected).abs().max() < BOUNDS[precision] * expected.abs().max()

    return compare


@pytest.mark.parametrize("name", ["eager float32", "openvino bfloat16"])
@pytest.mark.parametrize("mode", ["hot", "merged", "mixed"])
def test_hot_merged_and_mixed_pool_the_same_activations(
    name: str,
    mode: str,
    backbone: Backbone,
    with_statistics: Any,
    executor_of: ExecutorOf,
    given_costs: Callable[..., Any],
    questions: Ask,
    check_pooled: Callable[..., None],
) -> None:
    book = given_costs(hot=DEAR, merged=DEAR, mixed=FREE) if mode == "mixed" else given_costs(mixed=DEAR)
    runner = SegmentRunner(backbone, executor_of(name), max_batch=8, hot_bytes=10**9 if mode == "hot" else 0, book=book)
    adapters = [with_statistics(1), with_statistics(2, orientations=4), with_statistics(3, method="norm")]
    for adapter in adapters:
        runner.prefetch(adapter)
    runner.settle()
    runner.settle()
    asked = questions(adapters, 7)

    outcome = runner.scores(asked)
    runner.close()

    assert mode in outcome.modes
    check_pooled(asked, outcome.pooled, name.split()[1])


@pytest.mark.parametrize("name", ["openvino float32", "openvino bfloat16"])
def test_an_end_to_end_program_gives_the_pooled_activations_after_the_features(
    name: str,
    backbone: Backbone,
    with_statistics: Any,
    executor_of: ExecutorOf,
    questions: Ask,
    check: Callable[..., None],
    check_pooled: Callable[..., None],
) -> None:
    runner, precision = SegmentRunner(backbone, executor_of(name), max_batch=8), name.split()[1]
    for adapter in (with_statistics(4), with_statistics(5, orientations=2)):
        asked = questions([adapter], 3)
        for _ in range(LONE_IMAGES):
            for few in (asked, asked[:1]):
                runner.scores(few)
                runner.settle()

        for few in (asked, asked[1:2]):
            outcome = runner.scores(few)
            assert outcome.modes == {"whole": len(few)}
            check(few, outcome.scores, precision)
            check_pooled(few, outcome.pooled, precision)
        held = runner.nbytes()["hot"]
        runner.forget(adapter.digest)
        assert runner.tier(adapter.digest) is None
        assert runner.nbytes()["hot"] < held
    assert runner.nbytes()["hot"] == 0
    runner.close()


def test_a_fused_group_gives_them_to_the_members_that_have_statistics(
    backbone: Backbone,
    adapters: list[Adapter],
    with_statistics: Any,
    executor_of: ExecutorOf,
    given_costs: Callable[..., Any],
    questions: Ask,
    check: Callable[..., None],
    check_pooled: Callable[..., None],
) -> None:
    runner = SegmentRunner(
        backbone, executor_of("openvino float32"), max_batch=8, book=given_costs(hot=DEAR, mixed=NEVER)
    )
    asked = questions([with_statistics(6), adapters[0], with_statistics(7)], 9)
    modes: set[str] = set()
    for _ in range(STEADY_BATCHES + FIRST_TRIES + 6):
        outcome = runner.scores(asked)
        modes |= outcome.modes.keys()
        runner.settle()
        check_pooled(
            [each for each in asked if each.adapter is not adapters[0]],
            [v for each, v in zip(asked, outcome.pooled, strict=True) if each.adapter is not adapters[0]],
        )
        assert all(v is None for e, v in zip(asked, outcome.pooled, strict=True) if e.adapter is adapters[0])
    runner.close()

    assert {"mixed", "whole"} <= modes
    check(asked, outcome.scores)


def test_an_image_asked_of_many_adapters_is_pooled_once_and_of_others_not_at_all(
    backbone: Backbone,
    adapters: list[Adapter],
    with_statistics: Any,
    executor_of: ExecutorOf,
    question: Callable[..., Any],
    check_pooled: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = SegmentRunner(backbone, executor_of())
    image, known = torch.randn(3, 64, 64), [with_statistics(seed) for seed in (8, 9)]
    runner.scores([question(adapters[0], image)])
    (split,) = runner.splits
    seen: list[int] = []
    pooling = split.pooling
    monkeypatch.setattr(split, "pooling", lambda activations: (seen.append(len(activations)), pooling(activations))[1])

    without = runner.scores([question(adapter, image) for adapter in adapters[:3]])
    assert (without.pooled, seen) == ([None] * 3, [])

    asked = [question(known[n % 2], image) for n in range(16)]
    check_pooled(asked, runner.scores(asked).pooled)
    assert seen == [1]
    runner.close()


def test_statistics_of_another_layer_are_left_alone_and_the_log_says_so(
    backbone: Backbone,
    with_statistics: Any,
    executor_of: ExecutorOf,
    questions: Ask,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = SegmentRunner(backbone, executor_of())
    for adapter in (with_statistics(10, at="layer2_0_act2"), with_statistics(11, modules=".*")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            outcome = runner.scores(questions([adapter], 2))
        assert outcome.pooled == [None, None]
        assert "cannot tell unfamiliar images" in caplog.text
    runner.close()


def test_a_runner_without_a_trunk_pools_nothing(backbone: Backbone, with_statistics: Any, questions: Ask) -> None:
    twin = backbone.twin()
    asked = questions([with_statistics(12)], 2)

    assert MergedRunner(twin, ExactSwapper(twin)).scores(asked).pooled == [None, None]
