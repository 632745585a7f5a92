"""Runner and engine on a CUDA device answer as on the CPU: hot, merged and mixed, with kernels and slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.runner import BatchScores
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_service.engine.engine import Engine
from lensmount_service.metrics import Metrics

pytestmark = pytest.mark.gpu

BOUNDS = {"float32": 1e-3, "bfloat16": 0.05}


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


def served(device: str, parts: Sequence[Any]) -> tuple[Backbone, list[Adapter]]:
    backbone = load_backbone("resnet10t", "random:0", device)
    return backbone, [admit(each.dump(), backbone) for each in parts]


@pytest.fixture
def parts(draw_adapter: Callable[..., Any]) -> list[Any]:
    """Adapters of the last layer, drawn for a backbone on the CPU."""
    backbone = load_backbone("resnet10t", "random:0")
    wishes = [("lora", 4), ("lora", 3), ("norm", 4), ("statistics", 4), ("lora", 8), ("lora-tucker", 2)]
    return [
        draw_adapter(backbone, method=method, modules=r"layer4.*", rank=rank, seed=seed, size=0.2)
        for seed, (method, rank) in enumerate(wishes)
    ]


def answers(runner: SegmentRunner, adapters: Sequence[Adapter], images: Tensor) -> BatchScores:
    return runner.scores([Question(adapters[n % len(adapters)], image) for n, image in enumerate(images)])


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("hot_bytes", [0, 2**30], ids=["cold", "hot"])
def test_a_runner_on_the_gpu_answers_like_one_on_the_cpu(precision: str, hot_bytes: int, parts: list[Any]) -> None:
    images = torch.rand(8, 3, 176, 176, generator=torch.Generator().manual_seed(0))
    on_cpu, of_cpu = served("cpu", parts)
    on_gpu, of_gpu = served("cuda", parts)
    exact = SegmentRunner(on_cpu, choose_executor("eager", "float32", "cpu", 1, None), max_batch=8, hot_bytes=0)
    runner = SegmentRunner(
        on_gpu, choose_executor("cudagraphs", precision, "cuda", 1, None, 8), max_batch=8, hot_bytes=hot_bytes
    )
    for adapter in of_gpu:
        (runner.prefetch if hot_bytes else runner.prepare)(adapter)
    runner.settle()
    for count in (1, 2, 3, 6):
        for first in range(3):
            mine, theirs = of_gpu[first : first + count], of_cpu[first : first + count]
            found, expected = answers(runner, mine, images), answers(exact, theirs, images)
            for score, wanted in zip(found.scores, expected.scores, strict=True):
                assert score.device.type == "cpu"
                assert (score - wanted).abs().max() < BOUNDS[precision]
    assert runner.changed() == []
    runner.close()
    exact.close()


def test_an_engine_on_the_gpu_answers_every_image_of_a_batch_that_finds_too_little_memory(parts: list[Any]) -> None:
    backbone, (adapter, *_) = served("cuda", parts)
    runner = SegmentRunner(backbone, choose_executor("cudagraphs", "float32", "cuda", 1, None, 1), max_batch=1)
    metrics = Metrics("0", backbone.name, backbone.fingerprint)
    runner.prepare(adapter)
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 3e8) / total)
    try:
        with Engine(backbone, runner, metrics, max_batch=512, max_queue=512) as engine:
            futures = engine.submit_many([(adapter, torch.zeros(3, 176, 176))] * 512)
            assert [future.exception(60) for future in futures] == [None] * 512
            assert not engine.lost
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert b"lensmount_out_of_memory_total 0.0" not in metrics.render()
