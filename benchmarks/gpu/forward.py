"""One hot adapter: images per second compared with the merged network in plain torch, and next to the card's limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle

import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone

from . import goals
from .bench import Bench
from .network import RESNET34, Network, Question, adapters_of, load, merged_network, parts_of, running

CHECKED = 4  # images whose scores are compared with float32


def measure(bench: Bench) -> None:
    for network in bench.networks:
        if not bench.has_time(40, network.name):
            return
        backbone = load(network, bench.device)
        (adapter,) = adapters_of(backbone, network, 1)
        whole = merged_network(backbone, adapter)
        compare_scores(bench, network, backbone, adapter, whole)
        half = whole.to(torch.bfloat16).to(memory_format=torch.channels_last)
        for images in (2,) if bench.dry else (1, 16, 256):
            if not bench.has_time(20, f"{network.name}, batch {images}"):
                return
            speed(bench, network, backbone, adapter, half, images)


def compare_scores(bench: Bench, network: Network, backbone: Backbone, adapter: Adapter, whole: nn.Module) -> None:
    """Before anything is timed: the answers must be right, and the adapter must matter to them."""
    images = torch.randn(CHECKED, 3, *backbone.preprocessing.size)
    with torch.inference_mode(), exact_float32():
        wanted = whole(images.to(bench.device)).softmax(1).cpu()
        without = adapter.head(backbone.features(images)).softmax(1).cpu()
    with running(backbone, [adapter], 2**33, 16) as runner:
        found = torch.stack(runner.scores([Question(adapter, image) for image in images]).scores).float()
    moved = float((wanted - without).abs().max())
    bench.row(f"{network.name}: scores moved by the adapter", moved, "", goals.SCORES_MOVED)
    error = float((found - wanted).abs().max())
    bench.row(f"{network.name}: scores differ from float32 by", error, "", goals.SCORE_ERROR)


def speed(bench: Bench, network: Network, backbone: Backbone, adapter: Adapter, half: nn.Module, images: int) -> None:
    size = backbone.preprocessing.size
    batches = [torch.randn(images, 3, *size, device=bench.device) for _ in range(3 if images < 256 else 2)]
    where = f"{network.name}, batch {images}"
    peers = peer_ms(bench, half, batches)
    for peer, ms in peers.items():
        bench.row(f"{where}: {peer}", 1e3 * images / ms, "images/s")
    ours = ours_ms(bench, backbone, adapter, batches)
    bench.row(f"{where}: ours, hot, images on the device", 1e3 * images / ours, "images/s")
    bench.row(f"{where}: ours / fastest peer", min(peers.values()) / ours, "times", goals.TO_PEER)
    of_floor = goals.TO_FLOOR_FULL if network is RESNET34 and images == 256 else goals.TO_FLOOR
    bench.row(f"{where}: card's limit / ours, in time", network.floor_ms(images) / ours, "times", of_floor)
    questions = [Question(adapter, image) for image in batches[0].cpu()]
    with running(backbone, [adapter], 2**33, 16) as runner:
        call = bench.clock.host_ms(lambda: runner.scores(questions), 20)
    of_call = goals.CALL_OF_ONE if network is RESNET34 and images == 1 else goals.NONE
    bench.row(f"{where}: runner.scores from float32 on the host", call, "ms", of_call)
    of_share = goals.DEVICE_SHARE if images == 16 else goals.NONE
    bench.row(f"{where}: device's time / runner.scores", ours / call, "times", of_share)


def ours_ms(
    bench: Bench, backbone: Backbone, adapter: Adapter, batches: list[Tensor], executor: str = "cudagraphs"
) -> float:
    """Trunk and the adapter's hot branch, for images that are on the device already."""
    parts = parts_of(backbone, adapter, 16 if executor == "cudagraphs" else 1, executor)
    branch = parts.bind(adapter)
    turn = cycle(batches)
    return bench.clock.device_ms(lambda: branch(parts.activations(next(turn))))


def peer_ms(bench: Bench, half: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    """The merged network in bfloat16 and channels-last, called plainly, and on a GPU captured as one graph."""
    turn = cycle(batches)

    def plain() -> Tensor:
        scores: Tensor = half(next(turn).to(torch.bfloat16, memory_format=torch.channels_last))
        return scores

    with torch.inference_mode():
        found = {"torch eager bfloat16": bench.clock.device_ms(plain)}
        if bench.device.type == "cuda":
            found["torch eager bfloat16 as one graph"] = bench.clock.device_ms(_captured(half, batches))
    return found


def _captured(half: nn.Module, batches: list[Tensor]) -> Callable[[], None]:
    """The same kernels as one CUDA graph: a peer that needs no compiling. `half` ran before, so it is warm."""
    fixed = torch.empty_like(batches[0], dtype=torch.bfloat16, memory_format=torch.channels_last)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        half(fixed)
    turn = cycle(batches)

    def replay() -> None:
        fixed.copy_(next(turn))
        graph.replay()

    return replay


@contextmanager
def exact_float32() -> Iterator[None]:
    """Without TF32, which cuDNN uses for float32 convolutions by default (an error of 1e-3)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
