"""Every way to compute a batch gives the answers of plain torch with merged weights; none writes the backbone."""

from __future__ import annotations

import doctest
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit, runners
from lensmount_adapters.errors import SwapError
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.segment_runner import SegmentRunner

FREE, DEAR = LinearCost(0.0, 0.0), LinearCost(1e9, 1e9)
EXECUTORS = ["eager float32", "eager bfloat16", "openvino float32", "openvino bfloat16"]
ExecutorOf = Callable[..., Executor]
Ask = Callable[..., list[Any]]
Check = Callable[..., None]


@pytest.fixture(params=["float32", "bfloat16"])
def runner(request: pytest.FixtureRequest, backbone: Backbone, executor_of: ExecutorOf) -> Iterator[SegmentRunner]:
    runner = SegmentRunner(backbone, executor_of(f"eager {request.param}"), max_batch=8)
    yield runner
    runner.close()


@pytest.fixture
def exact(backbone: Backbone, executor_of: ExecutorOf) -> Iterator[SegmentRunner]:
    """In float32."""
    runner = SegmentRunner(backbone, executor_of())
    yield runner
    runner.close()


@pytest.fixture
def cold(backbone: Backbone, executor_of: ExecutorOf) -> Iterator[SegmentRunner]:
    """In float32, and without memory for merged weights."""
    runner = SegmentRunner(backbone, executor_of(), hot_bytes=0)
    yield runner
    runner.close()


def test_a_batch_of_every_kind_of_adapter_is_answered_correctly(
    adapters: list[Adapter], runner: SegmentRunner, questions: Ask, check: Check
) -> None:
    asked = questions(adapters, 16)

    outcome = runner.scores(asked)

    check(asked, outcome.scores, runner.describe()["precision"])
    assert sum(outcome.modes.values()) == 16
    assert runner.changed() == []


@pytest.mark.parametrize("name", EXECUTORS)
@pytest.mark.parametrize("mode", ["hot", "merged", "mixed"])
def test_hot_merged_and_mixed_agree_with_plain_torch(
    name: str,
    mode: str,
    backbone: Backbone,
    same_cut: list[Adapter],
    executor_of: ExecutorOf,
    given_costs: Callable[..., Any],
    questions: Ask,
    check: Check,
) -> None:
    book = given_costs(hot=DEAR, merged=DEAR, mixed=FREE) if mode == "mixed" else given_costs(mixed=DEAR)
    hot_bytes = 10**9 if mode == "hot" else 0
    runner = SegmentRunner(backbone, executor_of(name), max_batch=8, hot_bytes=hot_bytes, book=book)
    for adapter in same_cut:
        runner.prefetch(adapter)
    runner.settle()
    runner.settle()  # the first waits for the prefetches, the second for the programs that they asked for
    asked = questions(same_cut, 10)

    outcome = runner.scores(asked)
    runner.close()

    assert outcome.modes == {mode: 10}
    check(asked, outcome.scores, name.split()[1])


def test_an_adapter_that_follows_another_has_its_program_before_its_first_image(
    exact: SegmentRunner, adapters: list[Adapter], questions: Ask
) -> None:
    stable, candidate = adapters[0], adapters[1]
    exact.scores(questions([stable], 4))
    exact.settle()
    made = exact.prefetch(candidate, stable.digest, 0.5)
    made.result(60)
    assert exact.tier(candidate.digest) == "hot"
    exact.retire(candidate.digest)
    assert exact.tier(candidate.digest) == "hot"  # until others need the memory


def test_the_same_image_for_many_adapters_goes_through_the_trunk_once(
    exact: SegmentRunner,
    adapters: list[Adapter],
    question: Callable[..., Any],
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = torch.randn(3, 64, 64)
    asked = [question(adapters[n], image) for n in (0, 1, 2, 3)]
    exact.scores(asked)
    seen: list[int] = []
    (split,) = exact.splits
    trunk = split.activations
    monkeypatch.setattr(split, "activations", lambda images: (seen.append(len(images)), trunk(images))[1])

    outcome = exact.scores(asked)

    assert seen == [1]
    check(asked, outcome.scores)


def test_the_bits_of_an_answer_do_not_depend_on_earlier_requests(
    backbone: Backbone, adapters: list[Adapter], executor_of: ExecutorOf, questions: Ask
) -> None:
    runner = SegmentRunner(backbone, executor_of(), hot_bytes=0, max_batch=1)
    draw = torch.Generator().manual_seed(5)
    asked = questions(adapters[:6], 6)
    first = [runner.scores([each]).scores[0] for each in asked]

    for _ in range(60):
        number = int(torch.randint(6, (1,), generator=draw))
        again = runner.scores([asked[number]]).scores[0]
        assert torch.equal(again, first[number])
    assert runner.changed() == []
    runner.close()


def test_a_merge_that_fails_changes_nothing_for_later_requests(
    cold: SegmentRunner, adapters: list[Adapter], questions: Ask, question: Callable[..., Any], check: Check
) -> None:
    class Failing:
        def __init__(self, delta: Any) -> None:
            self._delta, self.target, self.rank = delta, delta.target, None

        def write(self, base: Tensor, live: Tensor) -> None:
            live.fill_(7)
            raise MemoryError

        def dense(self) -> Tensor:
            raise MemoryError

    broken = replace(adapters[3], digest="sha256:broken", deltas=(Failing(adapters[3].deltas[0]),))  # type: ignore[arg-type]
    asked = questions(adapters[:4], 4)

    with pytest.raises((SwapError, MemoryError)):
        cold.scores([question(broken, asked[0].image)])

    check(asked, cold.scores(asked).scores)
    assert cold.changed() == []


def test_a_forgotten_adapter_frees_its_hot_slot(exact: SegmentRunner, adapters: list[Adapter]) -> None:
    exact.prefetch(adapters[0])
    exact.settle()
    exact.settle()
    assert exact.tier(adapters[0].digest) == "hot"
    assert exact.nbytes()["hot"] > 0

    exact.forget(adapters[0].digest)

    assert exact.tier(adapters[0].digest) is None
    assert exact.nbytes()["hot"] == 0


def test_several_orientations_are_averaged(
    exact: SegmentRunner, backbone: Backbone, draw_adapter: Callable[..., Any], questions: Ask, check: Check
) -> None:
    parts = draw_adapter(backbone, modules=r"layer4.*")
    parts.manifest["preprocessing"]["orientations"] = 8
    asked = questions([admit(parts.dump(), backbone)], 3)

    check(asked, exact.scores(asked).scores)


def test_images_of_different_sizes_share_a_batch(
    exact: SegmentRunner, adapters: list[Adapter], questions: Ask, check: Check
) -> None:
    asked = questions(adapters[:3], 3, size=64) + questions(adapters[:3], 3, size=96)

    check(asked, exact.scores(asked).scores)


def test_an_adapter_of_a_layer_that_is_no_input_is_merged_in_place(
    exact: SegmentRunner,
    backbone: Backbone,
    adapters: list[Adapter],
    questions: Ask,
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("lensmount_adapters.graph.functional.FunctionalBranch.covers", lambda self, deltas: False)
    asked = questions(adapters[:2], 4)

    log = logging.getLogger("lensmount_adapters.runners.segment_runner")
    monkeypatch.setattr(log, "disabled", False)  # whatever other libraries did to logging in this process
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    log.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING, logger=log.name):
        outcome = exact.scores(asked)
    log.removeHandler(caplog.handler)

    assert outcome.modes == {"merged": 4}
    assert "merged in place" in caplog.text
    assert backbone.changed() == []
    check(asked, outcome.scores)
    assert exact.changed() == []


def test_a_runner_without_shortcuts_uses_hot_merged_and_mixed_alone(
    backbone: Backbone, adapters: list[Adapter], executor_of: ExecutorOf, questions: Ask, check: Check
) -> None:
    runner = SegmentRunner(backbone, executor_of(), shortcuts=())
    asked = questions(adapters[:2], 4)
    for _ in range(40):  # more batches than a fused group needs
        outcome = runner.scores(asked)
        runner.settle()
    runner.close()

    assert runner.shortcuts == {}
    check(asked, outcome.scores)


def test_an_unknown_shortcut_is_refused_with_those_that_exist(backbone: Backbone, executor_of: ExecutorOf) -> None:
    with pytest.raises(ValueError, match=r"found shortcuts \['short'\], expected names from \['end-to-end', 'fused'\]"):
        SegmentRunner(backbone, executor_of(), shortcuts=("fused", "short"))


def test_the_example_in_the_docstring_of_the_package_works(draw_adapter: Callable[..., Any]) -> None:
    def draw_adapters(backbone: Backbone, count: int) -> list[Adapter]:
        return [admit(draw_adapter(backbone, seed=seed, modules=r"layer4.*").dump(), backbone) for seed in range(count)]

    assert runners.__doc__ is not None
    example = doctest.DocTestParser().get_doctest(
        runners.__doc__, {"draw_adapters": draw_adapters}, "runners", None, None
    )

    assert len(example.examples) >= 10
    assert doctest.DocTestRunner().run(example).failed == 0
