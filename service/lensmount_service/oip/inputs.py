"""What a request gives a model: encoded images, or the network's own input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lensmount_adapters.inputs.prepare import PreparedInput
from lensmount_adapters.inputs.rules import InputRule, Preprocessing
from lensmount_service.errors import RequestInvalid
from lensmount_service.oip.requests import IMAGE
from lensmount_service.oip.tensors import BYTES, FP32, GivenTensor, too_many
from lensmount_service.routes.context import TenantContext
from lensmount_service.routes.outcomes import DecodedInput
from lensmount_service.routes.predict import Predictor
from lensmount_service.store.catalog import Snapshot
from lensmount_service.web.bodies import Part
from lensmount_service.web.pixels import stated_pixels
from lensmount_service.web.schemas import ImageRef

INPUT = "input"
"""The name of the network's own input."""


class Given(Protocol):
    """The images of one request, in one of the forms that a model takes."""

    def __len__(self) -> int: ...

    def pixels(self) -> int:
        """How many pixels, or voxels, they have together. May read the headers of images."""
        ...

    async def prepared(self, predictor: Predictor, seen: TenantContext, snapshot: Snapshot) -> list[DecodedInput]:
        """The network's input for each. Raises ImageError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImages:
    """Images or volumes as files have them."""

    parts: list[Part]

    def __len__(self) -> int:
        return len(self.parts)

    def pixels(self) -> int:
        return sum(stated_pixels(part.data) for part in self.parts)

    async def prepared(self, predictor: Predictor, seen: TenantContext, snapshot: Snapshot) -> list[DecodedInput]:
        return await predictor.decode(seen, self.parts, [snapshot])


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInputs:
    """What `inputs.prepare` gives for each image: float32 [N, channels, ...], after the mean and the std."""

    tensors: Tensor

    def __len__(self) -> int:
        return len(self.tensors)

    def pixels(self) -> int:
        return len(self.tensors) * math.prod(self.tensors.shape[2:])

    async def prepared(self, predictor: Predictor, seen: TenantContext, snapshot: Snapshot) -> list[DecodedInput]:
        rule = snapshot.adapter.manifest.preprocessing
        size = (rule.size[1], rule.size[0]) if isinstance(rule, Preprocessing) else None
        return [
            DecodedInput(ImageRef(index=index, name=None), PreparedInput({rule: tensor}, size), 0.0)
            for index, tensor in enumerate(self.tensors)
        ]


def read_inputs(inputs: Sequence[GivenTensor], rule: InputRule, most: int) -> Given:
    """The images of a request, at most `most`. Raises RequestInvalid, or BodyTooLarge (`batch_too_large`)."""
    if len(inputs) != 1 or inputs[0].name not in (IMAGE, INPUT):
        names = ", ".join(repr(each.name[:40]) for each in inputs)
        raise RequestInvalid(
            f"found the inputs {names}, expected either {IMAGE!r} (BYTES: encoded images) or {INPUT!r} "
            f"(FP32 [N, {', '.join(map(str, rule.input_shape))}]: the network's input). Fix: send one of the two"
        )
    return _images(inputs[0], most) if inputs[0].name == IMAGE else _network_inputs(inputs[0], rule, most)


def _images(given: GivenTensor, most: int) -> EncodedImages:
    _require_datatype(given, BYTES)
    data = given.elements(most)
    if not data or given.shape not in ((len(data),), (len(data), 1)):
        raise RequestInvalid(
            f"the input {IMAGE!r}: found the shape {list(given.shape)[:8]} with {len(data)} images, expected [N] or "
            "[N, 1] with N images, at least one. Fix: state how many images you send"
        )
    return EncodedImages([Part(each, None) for each in data])


def _network_inputs(given: GivenTensor, rule: InputRule, most: int) -> NetworkInputs:
    _require_datatype(given, FP32)
    if given.shape[1:] != rule.input_shape or given.shape[0] < 1:
        raise RequestInvalid(
            f"the input {INPUT!r}: found the shape {list(given.shape)}, expected "
            f"[N, {', '.join(map(str, rule.input_shape))}]. Fix: send images as the adapter's preprocessing gives them"
        )
    if given.shape[0] > most:
        raise too_many(given.shape[0], most)
    values = given.floats(math.prod(given.shape)).reshape(given.shape)
    tensors = torch.from_numpy(values.copy())
    _require_range(tensors, rule)
    return NetworkInputs(tensors)


def _require_range(tensors: Tensor, rule: InputRule) -> None:
    """Raises RequestInvalid for values that no image has, which could make an adapter's scores infinite."""
    ones = (1,) * (tensors.ndim - 2)
    mean, std = (torch.tensor(values).view(-1, *ones) for values in (rule.mean, rule.std))
    pixels = tensors * std + mean
    if not bool(((pixels >= -1) & (pixels <= 2)).all()):  # an interpolation overshoots [0, 1] by less
        raise RequestInvalid(
            f"the input {INPUT!r}: found values that are not finite or far from those of an image, expected pixels in "
            f"[0, 1] after (pixels - mean) / std with mean {list(rule.mean)} and std {list(rule.std)}. "
            "Fix: normalise the images so, or send them encoded as the input 'image'"
        )


def _require_datatype(given: GivenTensor, expected: str) -> None:
    if given.datatype != expected:
        raise RequestInvalid(
            f"the input {given.name!r}: found the datatype {given.datatype[:16]!r}, expected {expected}. "
            f"Fix: send it as {expected}"
        )
