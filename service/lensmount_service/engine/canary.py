"""A few fixed images through a new adapter before it is published: its scores must be finite on this server.

They go through the queue like the images of a client, in the server's own precision and programs, and hold other
requests for one batch of one image at a time, four times. docs/security.md has the cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.inputs.prepare import normalise
from lensmount_service.engine.engine import Engine
from lensmount_service.errors import Unusable

TIMEOUT_S = 60.0

Charge = Callable[[int], object]  # with a number of pixels; raises if they are too many


class Canary:
    """`Canary(engine).check(adapter)` in any thread. Before the engine starts, nothing is checked: the zoo is ours."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check(self, adapter: Adapter, caller: str = "", charge: Charge = lambda pixels: None) -> None:
        """The images take turns of `caller`, and `charge` gets their pixels.

        Raises AdapterInvalid (`adapter_not_finite`), or QueueFull and the like if the engine has no room.
        """
        if not self._engine.started:
            return
        if not self._engine.runner.ready(adapter):
            self._engine.runner.prepare(adapter)
        deadline = time.perf_counter() + TIMEOUT_S
        images = canaries(adapter)
        charge(images[:, 0].numel())
        try:
            for image in images:
                (future,) = self._engine.submit_many([(adapter, image)], deadline, caller, trial=True)
                future.result()
        except Unusable as error:
            raise AdapterInvalid(
                f"{culprit(adapter, self._engine.backbone)}: the scores of a test image are not finite "
                f"({', '.join(self._engine.runner.describe().values())}). Fix: lower these values, or train with a "
                "lower learning rate; a server in float32 has the widest range",
                code="adapter_not_finite",
            ) from error


def canaries(adapter: Adapter) -> Tensor:
    """Black, white, noise and a gradient, as the adapter's rule hands them to the backbone: [4, *input_shape]."""
    rule = adapter.manifest.preprocessing
    shape = rule.input_shape
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    gradient = torch.linspace(0, 1, shape[-1]).expand(shape)
    return normalise(torch.stack([torch.zeros(shape), torch.ones(shape), noise, gradient]), rule)


def culprit(adapter: Adapter, backbone: Backbone) -> str:
    """The tensor that is most likely to blame: of the head, if it fails on features of size 1, or the largest delta."""
    features = torch.ones(1, backbone.feature_dim, *((1, 1) if backbone.dense else ())).to(backbone.device)
    sizes = {f"head.{name}": float(value.abs().max()) for name, value in adapter.head.state_dict().items()}
    logits = adapter.logits(features) / adapter.manifest.head.temperature
    if not torch.isfinite(logits).all() or not adapter.deltas:
        return max(sizes, key=lambda name: sizes[name])
    bases = backbone.base(delta.target.name for delta in adapter.deltas)
    moved = {
        delta.target.name: float(
            (delta.merged(bases[delta.target.name]) - bases[delta.target.name].float()).abs().max()
        )
        for delta in adapter.deltas
    }
    largest_delta = max(moved, key=lambda name: moved[name])
    largest_head = max(sizes, key=lambda name: sizes[name])
    return largest_head if sizes[largest_head] > max(moved[largest_delta], 1e6) else largest_delta
