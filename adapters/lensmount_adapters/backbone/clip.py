"""The image half of a transformers CLIP as a backbone, with q, k and v as separate layers.

Its files are in a folder that `save_pretrained` wrote, or in a repository on the hub, which becomes such a folder in
the hub's cache. CLIP: arXiv 2103.00020; PLIP, the same network trained on pathology: doi:10.1038/s41591-023-02504-3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import huggingface_hub
import torch
from safetensors import SafetensorError
from timm.data import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from timm.models import register_notrace_module
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters.errors import BackboneError, WeightsMismatch

if TYPE_CHECKING:
    from transformers import CLIPModel

CLIP = "clip"
DEFAULT_REPOSITORY = "hub:openai/clip-vit-base-patch32"
HUB_TIMEOUT_S = 5.0
_FILES = ["*.json", "*.txt", "model.safetensors", "pytorch_model.bin"]


class ClipImageTower(nn.Module):
    """The modules of transformers' CLIPVisionModel: images [N, 3, H, W] to pooled features [N, width].

    Tensors are named as in a CLIPModel ("vision_model.encoder.layers.0.self_attn.q_proj.weight"). The forward pass is
    written out because transformers' own cannot be traced, and a server cuts the backbone into trunk and branch.
    Images of any size are accepted: position embeddings are resized to the image's grid of patches (bicubic).
    """

    def __init__(self, vision_model: Any, processor: Any) -> None:
        super().__init__()
        self.vision_model = vision_model
        self.pretrained_cfg = _pretrained_cfg(vision_model, processor)
        register_notrace_module(type(vision_model.embeddings))  # its code branches on the size of the images

    def forward(self, images: Tensor) -> Tensor:
        model = self.vision_model
        x = model.embeddings(images, interpolate_pos_encoding=True)  # [N, 1 + patches, width]
        x = model.pre_layrnorm(x)
        for layer in model.encoder.layers:
            x = x + _attend(layer.self_attn, layer.layer_norm1(x))
            x = x + layer.mlp(layer.layer_norm2(x))
        pooled: Tensor = model.post_layernorm(x[:, 0])  # the class token
        return pooled


def _attend(attention: Any, x: Tensor) -> Tensor:
    """Compute softmax(q k^T / sqrt(d)) v for each head, on [N, tokens, width]."""
    q, k, v = (
        projected(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)  # [N, heads, tokens, head_dim]
        for projected in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, scale=attention.scale)
    out: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return out


def image_tower(weights: str | Path | None) -> ClipImageTower:
    """Load the image half of a CLIP.

    `weights`: a folder, "hub:OWNER/NAME", None or "hub" (OpenAI's ViT-B/32). Raises a BackboneError that says how to
    fix it.
    """
    folder = clip_folder(weights)
    vision_model = clip_model(folder).vision_model
    return ClipImageTower(vision_model, _processor(folder))


def random_image_tower(seed: int) -> ClipImageTower:
    """Create an untrained ViT-B/32, to try things out."""
    transformers = _transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClipImageTower(transformers.CLIPVisionModel(transformers.CLIPVisionConfig()), None)


def clip_model(folder: Path) -> CLIPModel:
    """Load both halves of the CLIP in a folder, in float32 and eval mode. Raises BackboneError, WeightsMismatch."""
    transformers = _transformers()
    transformers.utils.logging.disable_progress_bar()  # it would clutter a server's log for milliseconds of work
    try:
        model, loading_info = transformers.CLIPModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsMismatch(
            f"{folder}: found no CLIP ({str(error)[:200]}), expected config.json and model.safetensors as "
            "CLIPModel.save_pretrained writes them. Fix: choose another folder, or --weights hub:OWNER/NAME"
        ) from error
    if missing := sorted(loading_info["missing_keys"]):
        raise WeightsMismatch(
            f"{folder}: found no tensor {missing[0]!r}, expected all of a CLIPModel's. Fix: save the complete model"
        )
    clip: CLIPModel = model.eval()
    return clip


def clip_folder(weights: str | Path | None) -> Path:
    """Return the folder with the files: the given one, or the hub's copy in the local cache. Raises BackboneError."""
    source = DEFAULT_REPOSITORY if weights is None or str(weights) == "hub" else str(weights)
    if source.startswith("hub:"):
        return _from_hub(source.removeprefix("hub:"))
    if not (Path(source) / "config.json").is_file():
        raise BackboneError(
            f"found no CLIP in {source}, expected a folder with config.json and model.safetensors, or hub:OWNER/NAME. "
            "Fix: --weights hub:openai/clip-vit-base-patch32, or a folder that save_pretrained wrote"
        )
    return Path(source)


def _from_hub(repository: str) -> Path:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
        raise BackboneError(f"found --weights hub:{repository[:80]}, expected hub:OWNER/NAME as in hub:vinid/plip")
    try:
        return Path(huggingface_hub.snapshot_download(repository, local_files_only=True, allow_patterns=_FILES))
    except OSError:
        pass  # not in the cache
    try:
        httpx.head(
            huggingface_hub.constants.ENDPOINT, timeout=HUB_TIMEOUT_S
        )  # the hub's own client retries for a minute
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=_FILES))
    except (httpx.HTTPError, OSError) as error:
        raise BackboneError(
            f"clip: {repository} is not in the local cache and cannot be downloaded from the hub "
            f"({type(error).__name__}). Fix: connect once, or give --weights FOLDER, "
            "or --weights random:0 to try things out"
        ) from error


def _processor(folder: Path) -> Any:
    """Load the folder's image processor, or None if it has none."""
    if not (folder / "preprocessor_config.json").is_file():
        return None
    return _transformers().CLIPImageProcessor.from_pretrained(folder)


def _pretrained_cfg(vision_model: Any, processor: Any) -> dict[str, Any]:
    """Describe the model as timm's `pretrained_cfg` does. Without a processor, mean and std are OpenAI's."""
    side = vision_model.config.image_size
    if processor is None:
        rule = {"mean": OPENAI_CLIP_MEAN, "std": OPENAI_CLIP_STD, "crop_pct": 1.0, "interpolation": "bicubic"}
        return {"input_size": (3, side, side), **rule}
    crop, size = processor.crop_size, processor.size
    return {
        "input_size": (3, crop["height"], crop["width"]),
        "mean": tuple(processor.image_mean),
        "std": tuple(processor.image_std),
        "crop_pct": min(1.0, crop["height"] / (size.get("shortest_edge") or crop["height"])),
        "interpolation": "bilinear" if int(processor.resample) == 2 else "bicubic",
    }


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise BackboneError(
            "the backbone clip needs the transformers library. Fix: pip install 'lensmount[clip]'"
        ) from error
    return transformers
