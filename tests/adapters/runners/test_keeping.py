"""The twin of an end-to-end program gives the trunk's output too, and is used only if no bit of an answer changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.programs.executor import Executor, Joining, Program
from lensmount_adapters.runners.end_to_end import EndToEndPrograms
from lensmount_adapters.runners.keeping import MOST, UNUSED_S, KeepingPrograms
from lensmount_adapters.runners.segment_runner import SegmentRunner

LONE_IMAGES = 13  # more than it takes to get an end-to-end program
Ask = Callable[..., list[Any]]


@pytest.fixture(params=["openvino bfloat16"])
def runner(request: Any, backbone: Backbone, executor_of: Callable[..., Executor]) -> Iterator[SegmentRunner]:
    runner = SegmentRunner(backbone, executor_of(request.param), max_batch=8)
    yield runner
    runner.close()


def twins_of(runner: SegmentRunner) -> KeepingPrograms:
    shortcut = runner.shortcuts["end-to-end"]
    assert isinstance(shortcut, EndToEndPrograms)
    return shortcut.keeping


def until_whole(runner: SegmentRunner, *batches: list[Any]) -> None:
    for _ in range(LONE_IMAGES):
        for asked in batches:
            runner.scores(asked)
            runner.settle()


def test_a_batch_and_a_single_image_keep_what_the_trunk_gave_with_the_same_bits(
    runner: SegmentRunner, with_statistics: Any, adapters: list[Adapter], questions: Ask
) -> None:
    shadow = adapters[1]
    runner.prepare(shadow)
    for stable in (with_statistics(1), with_statistics(2, orientations=1), adapters[0]):
        batches = [questions([stable], 3), questions([stable], 1)]
        until_whole(runner, *batches)
        for asked in batches:
            shadows = dict.fromkeys(range(len(asked)), shadow)
            plain = runner.scores(asked)
            first, kept = runner.scores_keeping(asked, shadows)
            assert all(each.from_image for each in kept.values())
            runner.settle()
            second, kept = runner.scores_keeping(asked, shadows)
            assert not any(each.from_image for each in kept.values())
            assert plain.modes == first.modes == second.modes == {"whole": len(asked)}
            for outcome in (first, second):
                assert all(torch.equal(*pair) for pair in zip(plain.scores, outcome.scores, strict=True))
                for own, same in zip(plain.pooled, outcome.pooled, strict=True):
                    assert (own is None) == (same is None)
                    assert own is None or same is None or torch.equal(own, same)
            given = runner.splits[0].activations(torch.stack([each.image for each in asked]))
            found = torch.cat([each.x for each in kept.values()])
            assert (found - given).abs().max() < 0.02 * given.abs().max()
        runner.forget(stable.digest)
        assert len(twins_of(runner)) == 0
    assert runner.changed() == []


class Differing:
    """Joins programs of which those with more columns answer differently by one bit."""

    def __init__(self, executor: Joining) -> None:
        self._executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def join(self, first: Program, second: Program, shapes: Sequence[Sequence[int]], **options: Any) -> Any:
        joined = self._executor.join(first, second, shapes, **options)
        if options["appended"] is None:
            return joined

        class Other:
            nbytes = joined.nbytes

            def __call__(self, *inputs: Tensor) -> Tensor:
                found: Tensor = joined(*inputs)
                found[0, 0] = torch.nextafter(found[0, 0], torch.tensor(torch.inf))
                return found

        return Other()


def test_a_twin_with_other_bits_is_never_used(
    backbone: Backbone, executor_of: Callable[..., Executor], adapters: list[Adapter], questions: Ask
) -> None:
    executor: Any = Differing(executor_of("openvino float32"))  # type: ignore[arg-type]  # this executor joins programs
    runner = SegmentRunner(backbone, executor, max_batch=8)
    asked = questions([adapters[0]], 3)
    runner.prepare(adapters[1])
    until_whole(runner, asked)
    plain = runner.scores(asked)
    assert plain.modes == {"whole": 3}
    for _ in range(3):
        outcome, kept = runner.scores_keeping(asked, {0: adapters[1]})
        runner.settle()
        assert torch.equal(torch.stack(outcome.scores), torch.stack(plain.scores))
        assert kept[0].from_image
    assert len(twins_of(runner)) == 1  # which is not made again
    runner.close()


def test_twins_are_bounded_and_dropped_when_unused(
    runner: SegmentRunner, adapters: list[Adapter], questions: Ask
) -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    asked, clock, made = questions([adapters[0]], 3), Clock(), list[Callable[[], None]]()
    until_whole(runner, asked)
    shortcut: Any = runner.shortcuts["end-to-end"]
    seen: list[Any] = []

    class Watching:
        def offer(self, batch: Any, before: Any) -> Any:
            offer = shortcut.offer(batch, before)
            seen.append((offer, batch, runner.programs.cache.get(adapters[0].digest)))
            return offer

        def forget(self, digest: str) -> None: ...

    runner.shortcuts = {"end-to-end": Watching()}
    runner.scores(asked)
    ((offer, batch, branch),) = seen
    twins = KeepingPrograms(shortcut.keeping._executor, made.append, 8, clock)
    for number in range(MOST + 2):
        same = twins.instead_of(replace(offer, key=number), batch, branch, f"sha256:{number}", many=True)
        assert same.program is offer.program
    assert len(twins) == len(made) == MOST
    clock.now = UNUSED_S - 1
    twins.instead_of(replace(offer, key=0), batch, branch, "sha256:0", many=True)
    twins.drop_unused()
    assert len(twins) == MOST
    clock.now = UNUSED_S + 1
    twins.drop_unused()
    assert len(twins) == 1
    twins.forget("sha256:0")
    made[0]()  # what was forgotten meanwhile does not come back
    assert len(twins) == 0
