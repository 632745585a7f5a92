"""What is kept of one image: what the trunk gave, and its file, every byte of which is checked when it is read.

A file is the SHA-256 of the rest, and then a safetensors file with the key and the image's size in its metadata. So a
file that was cut short, damaged or given another name is never taken for an answer.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lensmount_adapters.inputs.rules import InputRule
from lensmount_client._version import __version__

DIGEST_BYTES = 32
DECODERS = [f"lensmount {__version__}", *(f"{name} {version(name)}" for name in ("pillow", "imagecodecs", "numpy"))]


@dataclass(frozen=True, slots=True, eq=False)
class KeptOutput:
    """What the trunk gave, [orientations, ...], and the width and height of the image; None of a volume."""

    x: Tensor
    size: tuple[int, int] | None

    @property
    def nbytes(self) -> int:
        return self.x.nbytes


def key_of(tenant: str, image: str, rule: InputRule, trunk: str) -> str:
    """64 hexadecimal digits: of whom, of which bytes (their SHA-256), prepared how, by which trunk (its identity).

    The versions of what decodes images are part of it too, because a decoder may round otherwise in its next version.

    The tenant is part of the key, so how long an answer takes tells nobody which images others have.
    """
    text = json.dumps([tenant, image, rule.model_dump(mode="json"), trunk, DECODERS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def written(key: str, output: KeptOutput) -> bytes:
    """The file of an entry. Numbers are kept in the smallest format that has each of them exactly."""
    x = output.x.contiguous()
    told = {"key": key, "dtype": str(x.dtype).removeprefix("torch."), "size": json.dumps(output.size)}
    data: bytes = save({"x": _smallest(x)}, metadata=told)
    return hashlib.sha256(data).digest() + data


def read(key: str, file: bytes) -> KeptOutput | None:
    """The entry with this key; None if the file is another one's, or not what was written."""
    digest, data = file[:DIGEST_BYTES], file[DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        return None
    try:
        told = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        if told["key"] != key:
            return None
        size = json.loads(told["size"])
        x = load(data)["x"].to(getattr(torch, told["dtype"]))
    except (SafetensorError, ValueError, KeyError, AttributeError):  # of another version of this program
        return None
    return KeptOutput(x, None if size is None else (size[0], size[1]))


def _smallest(x: Tensor) -> Tensor:
    """In bfloat16 if no number changes by it: what a trunk in bfloat16 gives is often cast to float32."""
    if x.dtype is torch.float32 and torch.equal((half := x.to(torch.bfloat16)).to(torch.float32), x):
        return half
    return x
