"""How far an adapter moves an answer. One that moves nothing measures nothing: a test of it passes whatever breaks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone

LEAST = 1e-3  # a thousand times what float32 leaves of a score; below it, two answers may differ by rounding alone
SIDE = 64  # pixels and slices; enough for every backbone that takes inputs of any size


def moves_answer(backbone: Backbone, adapter: Adapter, side: int = SIDE) -> float:
    """The largest change of a score in [0, 1] by the adapter's deltas, its head on both sides, on two images of noise.

    The module is lent its merged weights; nothing is mounted and no program of Lensmount's runs.
    """
    images = _noise(backbone, side)
    base = {name: tensor.clone() for name, tensor in backbone.base([d.target.name for d in adapter.deltas]).items()}
    moved = {d.target.name: d.merged(base[d.target.name]).to(base[d.target.name]) for d in adapter.deltas}
    with torch.inference_mode():
        before, after = (
            adapter.scores(torch.func.functional_call(backbone.module, weights, (images,)).float())
            for weights in (base, moved)
        )
    return float((after - before).abs().max())


def gentle(backbone: Backbone, side: int = SIDE) -> float:
    """A power of two that brings a head of normal weights to logits of about 2 and less: softmax still answers there.

    At logits of 8 and more every score is 0 or 1 and no adapter can change it. A power of two is the same on every
    processor, though the features differ in their last bits.
    """
    features = backbone.features(_noise(backbone, side))
    spread = float(features.square().mean().sqrt()) * math.sqrt(backbone.feature_dim)
    return 2.0 ** min(0, math.floor(math.log2(2 / spread)))


def must_move_answer(backbone: Backbone, adapter: Adapter, least: float = LEAST) -> Adapter:
    """The adapter, shown to move an answer by at least this much. Raises AssertionError otherwise."""
    moved = moves_answer(backbone, adapter)
    assert moved >= least, f"{adapter.manifest.name} moves no answer on {backbone.name} by {least}: only by {moved:.1e}"
    return adapter


def _noise(backbone: Backbone, side: int) -> Tensor:
    shape = tuple(backbone.preprocessing.input_shape)
    if not backbone.fixed_size:
        shape = (shape[0], *(min(own, side) for own in shape[1:]))
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=draw).to(backbone.device, backbone.dtype)
