"""An adapter is written where a graph reads its weights. Tested without a GPU, by a torch.cuda that records graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.fake_cuda import FakeCuda

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.programs.cudagraphs import CudaGraphCompiled, CudaGraphProgram
from lensmount_adapters.runners.gpu.graph_mounting import GraphMounting
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.runners.split_backbone import SplitBackbone


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda.installed(monkeypatch)


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "float32"), (torch.bfloat16, "bfloat16")])
def test_adapters_of_every_method_answer_as_in_float64_in_any_order(
    dtype: torch.dtype,
    precision: str,
    cuda: FakeCuda,
    backbone: Backbone,
    adapters: list[Adapter],
    questions: Callable[..., Any],
    check: Callable[..., None],
) -> None:
    runner = SegmentRunner(backbone, cuda.executor(dtype), max_batch=2, hot_bytes=0)
    for turn in (adapters, adapters[::-1]):
        for adapter in turn:
            asked = questions([adapter], 2)
            outcome = runner.scores(asked)
            check(asked, outcome.scores, precision)
            assert outcome.modes == {"merged": 2}
    assert {type(split._mounting) for split in runner.splits} == {GraphMounting}
    assert runner.changed() == []
    runner.close()


def test_a_switch_writes_once_what_changes_and_an_adapter_that_stays_costs_no_launch(
    cuda: FakeCuda, backbone: Backbone, adapters: list[Adapter]
) -> None:
    runner = SegmentRunner(backbone, cuda.executor(torch.bfloat16), max_batch=2, hot_bytes=0)
    split: SplitBackbone = runner._splits.of(adapters[0])
    activations = split.example[:1]
    for adapter in (adapters[0], adapters[1], adapters[0]):  # so that both are laid out
        split.mount(adapter)
        split.run(activations)
    with torch.inference_mode(), cuda.launches() as switch:
        split.mount(adapters[1])
    with torch.inference_mode(), cuda.launches() as run:
        split.run(activations)

    layers = len(adapters[1].deltas)
    assert switch == {"addmm": layers, "copy_": layers}  # by torch; on a GPU these are one launch of kernels/
    assert run["addmm"] == run["copy_"] == 0
    assert sum(run.values()) <= 3  # the activations go in, features come out
    runner.close()


def test_the_weights_have_the_same_bits_whatever_was_mounted_before(
    cuda: FakeCuda, backbone: Backbone, same_cut: list[Adapter]
) -> None:
    runner = SegmentRunner(backbone, cuda.executor(), max_batch=1, hot_bytes=0)
    split: SplitBackbone = runner._splits.of(same_cut[0])
    x = torch.rand_like(split.example[:1])
    features: dict[str, list[torch.Tensor]] = {}
    for adapter in (*same_cut, *same_cut[::-1], *same_cut[::2]):
        split.mount(adapter)
        features.setdefault(adapter.digest, []).append(split.run(x))
    assert all(torch.equal(each, found[0]) for found in features.values() for each in found)
    runner.close()


def test_a_hot_program_in_between_leaves_the_mounted_adapter_its_weights(
    cuda: FakeCuda, backbone: Backbone, same_cut: list[Adapter]
) -> None:
    runner = SegmentRunner(backbone, cuda.executor(), max_batch=1, hot_bytes=0)
    split: SplitBackbone = runner._splits.of(same_cut[0])
    x, hot = torch.rand_like(split.example[:1]), split.bind(same_cut[1])
    split.mount(same_cut[0])
    first, of_hot = split.run(x), hot(x)

    assert torch.equal(split.run(x), first)
    assert torch.equal(hot(x), of_hot)
    assert not torch.equal(first, of_hot)
    runner.close()


def test_an_integrity_check_sees_the_very_tensors_that_compute(
    cuda: FakeCuda, backbone: Backbone, adapters: list[Adapter]
) -> None:
    runner = SegmentRunner(backbone, cuda.executor(torch.bfloat16), max_batch=1, hot_bytes=0)
    split: SplitBackbone = runner._splits.of(adapters[0])
    assert runner.changed() == []
    branch, trunk = split._branch, split.trunk
    assert isinstance(branch, CudaGraphCompiled)
    assert isinstance(trunk, CudaGraphProgram)
    with torch.inference_mode():
        branch.base[0][0] += 1  # the copy in bfloat16; what it was made from stays
        next(trunk.compiled._cast.module.buffers())[0] += 1
    first, second = runner.changed()

    assert first == "weight 0 (folded)"
    assert second.startswith("trunk constant ")
    runner.close()
