"""What a trunk gave for one adapter's image serves every adapter whose trunk has the same identity, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.runner import TrunkOutputs
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.trunks import identity as module
from lensmount_adapters.trunks.identity import trunk_identity

LONE_IMAGES = 13  # more than it takes to get an end-to-end program


@dataclass(frozen=True)
class Asked:
    adapter: Adapter
    image: Tensor
    keeps: bool = False
    from_trunk: bool = False
    apart: bool = True


@pytest.fixture(scope="module", params=["eager float32", "openvino bfloat16"])
def runner(
    request: pytest.FixtureRequest, backbone: Backbone, executor_of: Callable[..., Executor], given_costs: Any
) -> Any:
    costs = given_costs(mixed=LinearCost(0.0, 0.0))  # mixing is free, so it is what `apart` keeps from being chosen
    runner = SegmentRunner(backbone, executor_of(request.param), max_batch=8, book=costs)
    yield runner
    runner.close()


def asked(adapter: Adapter, images: Sequence[Tensor], **how: bool) -> list[Asked]:
    return [Asked(adapter, image, **how) for image in images]


def images(count: int = 3) -> list[Tensor]:
    draw = torch.Generator().manual_seed(count)
    return [torch.randn(3, 64, 64, generator=draw) for _ in range(count)]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_another_adapter_starts_from_what_the_trunk_gave_with_the_bits_of_a_whole_pass(
    runner: SegmentRunner, same_cut: list[Adapter], check: Any, questions: Any
) -> None:
    first, second = same_cut[:2]
    whole = runner.scores(asked(second, images()))
    kept = runner.scores(asked(first, images(), keeps=True))
    assert kept.trunk.keys() == {0, 1, 2}
    assert runner.trunk_of(first) == runner.trunk_of(second) is not None

    resumed = runner.scores(asked(second, [kept.trunk[n] for n in range(3)], from_trunk=True))

    assert same(resumed.scores, whole.scores)
    assert resumed.trunk == {}
    check(asked(second, images()), resumed.scores, runner.describe()["precision"])


def test_orientations_and_statistics_are_kept_with_the_image(
    runner: SegmentRunner, backbone: Backbone, draw_adapter: Any, with_statistics: Any
) -> None:
    parts = draw_adapter(backbone, seed=3, modules=r"layer4.*", size=0.2)
    parts.manifest["preprocessing"]["orientations"] = 4
    for adapter in (admit(parts.dump(), backbone), with_statistics(1)):
        whole = runner.scores(asked(adapter, images(), keeps=True))
        turns = adapter.manifest.preprocessing.orientations
        assert [len(whole.trunk[n]) for n in range(3)] == [turns] * 3

        resumed = runner.scores(asked(adapter, [whole.trunk[n] for n in range(3)], from_trunk=True))

        assert same(resumed.scores, whole.scores)
        for mine, other in zip(resumed.pooled, whole.pooled, strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or other is None or torch.equal(mine, other)


def test_what_is_asked_apart_has_the_same_bits_whatever_was_asked_before(
    runner: SegmentRunner, same_cut: list[Adapter]
) -> None:
    one, two = same_cut[:2]
    both = asked(one, images(2)) + asked(two, images(2))
    before = runner.scores(both)
    for _ in range(LONE_IMAGES):
        runner.scores(asked(one, images(), apart=False))
        runner.scores([Asked(each.adapter, each.image, apart=False) for each in both])
        runner.settle()
    after = runner.scores(both)
    assert same(before.scores, after.scores)
    assert "whole" not in after.modes
    assert "mixed" not in after.modes


def test_an_adapter_of_the_first_layer_keeps_nothing(
    runner: SegmentRunner, backbone: Backbone, draw_adapter: Any
) -> None:
    early = admit(draw_adapter(backbone, seed=5, modules=r"conv1.*|layer4.*").dump(), backbone)
    outcome = runner.scores(asked(early, images(), keeps=True))
    assert runner.trunk_of(early) is None
    assert outcome.trunk == {}


def test_a_runner_that_merges_in_place_keeps_no_trunk(backbone: Backbone, runner: SegmentRunner) -> None:
    assert isinstance(runner, TrunkOutputs)
    assert not isinstance(MergedRunner(backbone, ExactSwapper(backbone)), TrunkOutputs)


def test_the_identity_changes_with_everything_that_the_trunk_depends_on(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager: Any = SimpleNamespace(name="eager", dtype=torch.float32)
    known = trunk_identity(backbone, "layer3_0_act2", eager)
    assert known == trunk_identity(load_backbone(backbone.name, "random:0"), "layer3_0_act2", eager)
    others = {
        trunk_identity(load_backbone(backbone.name, "random:1"), "layer3_0_act2", eager),
        trunk_identity(backbone, Segments(backbone.module).halves_at(2).at, eager),
        trunk_identity(backbone, "layer3_0_act2", SimpleNamespace(name="eager", dtype=torch.bfloat16)),
        trunk_identity(backbone, "layer3_0_act2", SimpleNamespace(name="openvino", dtype=torch.float32)),
        trunk_identity(backbone, "layer3_0_act2", eager, "sha256:of a calibration"),
    }
    monkeypatch.setattr(module, "device_name", lambda device: "another processor")
    others.add(trunk_identity(backbone, "layer3_0_act2", eager))
    assert len(others - {known}) == 6
