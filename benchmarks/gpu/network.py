"""The networks that are measured, random adapters for them, and the ways to run one adapter."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone, Manifest, admit, dump_adapter, load_backbone
from lensmount_adapters.adapter.manifest import Factors, LinearHead
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.runners.split_backbone import SplitBackbone

from .goals import floor_ms

RANK = 8


@dataclass(frozen=True, slots=True)
class Network:
    """A timm model, the layers that adapters change, and timm's own counts at 224 pixels (G, M and M)."""

    name: str
    modules: str
    gmacs: float
    mega_weights: float
    mega_activations: float

    def floor_ms(self, images: int) -> float:
        return floor_ms(1e9 * self.gmacs, 1e6 * self.mega_weights, 1e6 * self.mega_activations, images)


RESNET34 = Network("resnet34", r"layer[34]\.\d+\.conv[12]", 3.67, 21.8, 3.74)
LITE0 = Network("tf_efficientnet_lite0", r"(blocks\.[456]\..*|conv_head)", 0.40, 4.65, 6.74)
VIT = Network("vit_base_patch32_224", r"blocks\.([6-9]|1[01])\.(attn\.(qkv|proj)|mlp\.fc[12])", 4.41, 88.2, 5.01)
NETWORKS = (RESNET34, LITE0, VIT)
TINY = Network("test_efficientnet", r"(blocks\.[45]\..*|conv_head)", 0.06, 0.36, 1.0)  # of the dry run


@dataclass(frozen=True, slots=True)
class Question:
    """One image for one adapter, as `SegmentRunner.scores` takes it."""

    adapter: Adapter
    image: Tensor


def load(network: Network, device: torch.device) -> Backbone:
    """The backbone on the device: EfficientNet-Lite0 with the weights of its package, others with random ones."""
    if network is LITE0:
        try:
            return load_backbone(network.name, None, device)
        except BackboneError:  # the package is not installed
            pass
    return load_backbone(network.name, "random:0", device)


def adapters_of(backbone: Backbone, network: Network, count: int) -> list[Adapter]:
    """Adapters number 0 to `count` - 1 of the network, drawn by their number and admitted."""
    return [admit(data, backbone) for data in adapter_files(backbone, network, count)]


def adapter_files(backbone: Backbone, network: Network, count: int) -> list[bytes]:
    """Random adapters whose heads are scaled to the features, so that every adapter moves the scores visibly."""
    images = torch.randn(2, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(0))
    features_norm = float(backbone.features(images).norm(dim=1).mean())
    return [_adapter_file(backbone, network, seed, features_norm) for seed in range(count)]


def _adapter_file(backbone: Backbone, network: Network, seed: int, features_norm: float) -> bytes:
    """Random factors on the network's linear layers and plain convolutions."""
    draw = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    factors: dict[str, Factors] = {}
    for target in backbone.targets.values():
        if not re.fullmatch(network.modules, target.module) or len(target.shape) not in (2, 4) or target.groups != 1:
            continue
        base = backbone.base([target.name])[target.name].float()
        ones = [1] * (len(target.shape) - 2)
        A = torch.randn(RANK, *target.shape[1:], generator=draw) / math.sqrt(math.prod(target.shape[1:]))
        B = torch.randn(target.shape[0], RANK, *ones, generator=draw) * 0.1 * float(base.std())
        tensors |= {f"{target.module}.lora_A.weight": A, f"{target.module}.lora_B.weight": B}
        factors[target.module] = Factors(rank=RANK, alpha=float(RANK))
    tensors["head.weight"] = torch.randn(2, backbone.feature_dim, generator=draw) / features_norm
    tensors["head.bias"] = torch.zeros(2)
    manifest = Manifest(
        name=f"random-{seed}",
        method="lora",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=("no", "yes"),
        head=LinearHead(),
        modules=factors,
    )
    return dump_adapter(manifest, tensors)


def merged_network(backbone: Backbone, adapter: Adapter) -> nn.Sequential:
    """The network as people deploy it: merged once, with its own head, nothing of Lensmount in it."""
    module = copy.deepcopy(backbone.module)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for delta in adapter.deltas:
            weight = parameters[delta.target.name]
            weight.copy_(delta.merged(weight))
    return nn.Sequential(module, copy.deepcopy(adapter.head)).eval()


def executor_of(device: torch.device, max_batch: int = 16, name: str = "cudagraphs") -> Executor:
    """Graphs in bfloat16 on a GPU; eager torch in bfloat16 elsewhere."""
    return choose_executor(name if device.type == "cuda" else "eager", "bfloat16", device, 1, None, max_batch)


def parts_of(backbone: Backbone, adapter: Adapter, max_batch: int, name: str = "cudagraphs") -> SplitBackbone:
    """Trunk and branch as the runner compiles them for this adapter, to be timed one by one."""
    halves = Segments(backbone.module).halves([delta.target.name for delta in adapter.deltas])
    return SplitBackbone(backbone, halves, executor_of(backbone.device, max_batch, name), max_batch)


@contextmanager
def running(backbone: Backbone, adapters: Sequence[Adapter], hot_bytes: int, max_batch: int) -> Iterator[SegmentRunner]:
    """A runner that has made everything it makes ahead for these adapters."""
    runner = SegmentRunner(backbone, executor_of(backbone.device), max_batch=max_batch, hot_bytes=hot_bytes)
    try:
        for adapter in adapters:
            (runner.prefetch if hot_bytes else runner.prepare)(adapter)
        settle(runner)
        yield runner
    finally:
        runner.close()


def settle(runner: SegmentRunner) -> None:
    """Wait for the background thread. What it makes may ask for more, so wait several times."""
    for _ in range(4):
        runner.settle()
