"""What identifies the output of a trunk: everything that its numbers depend on, except for the image."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass

import torch

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.dtypes import TF32
from lensmount_adapters.machine import device_name
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.programs.tensor_float import tf32_allowed

FLOAT = ""  # the word for a trunk that was not quantised


@dataclass(frozen=True, slots=True)
class TrunkIdentity:
    """`trunk_identity(backbone, at, executor)`. Activations may be shared or kept only under an equal identity.

    `backbone` is its fingerprint and `cut` the layer after which it is cut, empty without a trunk. `precision` is a
    word of dtypes.py, after "int8 " if the trunk is quantised and before " tf32" if a GPU may round so. `program` names
    executor and libraries, and `machine` the processor: both round in their own way. `quantised` is the digest of an
    int8 trunk: weights, ranges, settings and calibration images. A float one has none.
    """

    backbone: str
    cut: str
    precision: str
    program: str
    machine: str
    quantised: str = FLOAT

    @property
    def key(self) -> str:
        """64 hexadecimal digits, equal only for equal identities."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def trunk_identity(backbone: Backbone, at: str, executor: Executor, quantised: str = FLOAT) -> TrunkIdentity:
    """The identity of the trunk that ends after the layer `at` (`Halves.at`), computed by this executor here."""
    libraries = [f"torch {torch.__version__}"]
    if executor.name in ("openvino", "onnxruntime"):
        libraries.append(f"{executor.name} {importlib.metadata.version(executor.name)}")
    precision = str(executor.dtype).removeprefix("torch.")
    if backbone.device.type == "cuda" and tf32_allowed():
        precision += f" {TF32}"  # the executor's dtype does not say it
    return TrunkIdentity(
        backbone.fingerprint,
        at,
        ("int8 " if quantised else "") + precision,
        " ".join((executor.name, *libraries)),
        device_name(backbone.device),
        quantised,
    )
