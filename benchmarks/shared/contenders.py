"""What engine.py compares: random adapters on two backbones, and the same networks in PyTorch, OpenVINO and PEFT."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import peft
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lensmount_adapters import Adapter, Backbone, Manifest, load_backbone
from lensmount_adapters.adapter.manifest import Factors, LinearHead
from lensmount_adapters.delta.kinds import LowRank
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.programs.openvino import import_openvino

from .moves import must_move_answer

ADAPTED = {
    "tf_efficientnet_lite0": (None, r"(blocks\.[456]\..*|conv_head)", r"(blocks\.6\..*|conv_head)"),
    "resnet34": ("random:0", r"layer[34]\.\d+\.conv[12]", r"layer4\.2\.conv[12]"),
}
RANK, CLASSES = 8, 2


def draw_adapters(backbone: Backbone, modules: str, count: int) -> list[Adapter]:
    """Random adapters, as small as trained ones, on the ungrouped convolutions whose module matches the expression.

    The first two are shown to move a score.
    """
    targets = [
        target
        for target in backbone.targets.values()
        if re.fullmatch(modules, target.module) and len(target.shape) == 4 and target.groups == 1
    ]
    adapters = []
    for seed in range(count):
        draw = torch.Generator().manual_seed(seed)
        deltas = tuple(
            LowRank(
                target,
                torch.randn(RANK, *target.shape[1:], generator=draw) / math.sqrt(math.prod(target.shape[1:])),
                torch.randn(target.shape[0], RANK, 1, 1, generator=draw) * 0.5,
                1.0,
            )
            for target in targets
        )
        head = nn.Linear(backbone.feature_dim, CLASSES)
        manifest = Manifest(
            name=f"random-{seed}",
            method="lora",
            backbone=backbone.ref,
            preprocessing=backbone.preprocessing,
            labels=("no", "yes"),
            head=LinearHead(),
            modules={target.module: Factors(rank=RANK, alpha=float(RANK)) for target in targets},
        )
        adapters.append(Adapter(f"sha256:{seed:064x}", 0, manifest, deltas, head.eval().requires_grad_(False)))
    for adapter in adapters[:2]:  # the others are drawn in the same way
        must_move_answer(backbone, adapter)
    return adapters


class Whole(nn.Module):
    """A network as it is usually saved: the fine-tuned backbone and its classifier."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(x))
        return logits


def merged_network(backbone: Backbone, adapter: Adapter) -> nn.Module:
    weights, _, _ = ADAPTED[backbone.name]
    module = load_backbone(backbone.name, weights).module
    state = dict(module.named_parameters())
    with torch.no_grad():
        for delta in adapter.deltas:
            weight = state[delta.target.name]
            weight.copy_(delta.merged(weight))
    return Whole(module, adapter.head).eval()


def eager(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        scores: Tensor = network(images).softmax(1)
        return scores


def whole_openvino(network: nn.Module, images: Tensor, executor: Executor, threads: int) -> Callable[[], object]:
    ov = import_openvino()
    model = ov.convert_model(network, example_input=images)
    model.reshape({model.inputs[0]: list(images.shape)})
    precision = "bf16" if executor.dtype is torch.bfloat16 else "f32"
    config = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = ov.Core().compile_model(model, "CPU", config)
    pixels = images.numpy()
    return lambda: compiled(pixels)[0]


def with_peft(name: str, backbone: Backbone, adapters: Sequence[Adapter], images: Tensor) -> Callable[[], object]:
    """Return a function that computes the batch as PEFT does: unmerged, adapter after adapter in each layer."""
    weights, _, _ = ADAPTED[name]
    targets = [delta.target.module for delta in adapters[0].deltas]
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets)
    model: Any = load_backbone(name, weights).module
    model = peft.get_peft_model(model, config, adapter_name="a0")
    for number in range(1, len(adapters)):
        model.add_adapter(f"a{number}", config)
    model.eval()
    names = [f"a{number}" for number in range(len(adapters))]

    def work() -> Tensor:
        with torch.inference_mode():
            features = model(images, adapter_names=names)
            return torch.stack([a.head(row) for a, row in zip(adapters, features, strict=True)])

    return work


def flops(backbone: Backbone, names: Sequence[str]) -> tuple[int, int]:
    """The FLOPs of trunk and branch for one image."""
    halves = Segments(backbone.module).halves(names)
    assert halves.trunk is not None
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counted:
            activations = halves.trunk(torch.zeros(1, 3, 224, 224))
        trunk = counted.get_total_flops()
        with FlopCounterMode(display=False) as counted:
            halves.branch(activations)
    return trunk, counted.get_total_flops()
