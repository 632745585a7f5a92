"""Text prototypes: the mean direction of each class's descriptions, from CLIP's text encoder; they initialise a head.

This is zero-shot classification with an ensemble of prompts (CLIP, arXiv 2103.00020, section 3.1.4): every text is
encoded and normalised, and the prototype of a class is the mean over its texts, normalised again. The temperature is
the model's own `logit_scale`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.adapter.heads import Cosine
from lensmount_adapters.adapter.manifest import CosineHead
from lensmount_adapters.backbone.clip import clip_folder, clip_model
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.text.prompts import Prompts

TEXT_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class TextHead:
    """The initial values of a cosine head.

    `prototypes` [classes, dim] have length 1, `projection` [dim, features] maps image features to the space of the
    texts, `logit_scale` [] is the logarithm of the factor that the cosines are multiplied by.
    """

    prototypes: Tensor
    projection: Tensor
    logit_scale: Tensor

    @property
    def spec(self) -> CosineHead:
        return CosineHead(dim=self.prototypes.shape[1], projected=True)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors under their names in the adapter file."""
        names = ("prototypes", "projection", "logit_scale")
        return {f"head.{name}": getattr(self, name) for name in names}

    def fill(self, head: Cosine) -> None:
        """Set the head to these values and freeze the projection, because texts and images share it."""
        assert head.projection is not None  # `spec` says so
        with torch.no_grad():
            head.prototypes.copy_(self.prototypes)
            head.projection.copy_(self.projection)
            head.logit_scale.copy_(self.logit_scale)
        head.projection.requires_grad_(False)


def text_head(weights: str | Path | None, prompts: Prompts, labels: Sequence[str]) -> TextHead:
    """The head for these labels, from the text encoder of the CLIP at `weights` (backbone/clip.py).

    Raises BackboneError if there is no CLIP, TrainingError for a class without a description or a text that is too
    long.
    """
    texts = {label: prompts.texts(label) for label in labels}
    if str(weights).startswith("random:"):
        raise TrainingError(
            f"found prompts and --weights {weights}, expected a CLIP with a text encoder. "
            "Fix: use --weights FOLDER or hub:OWNER/NAME"
        )
    folder = clip_folder(weights)
    model, tokenizer = clip_model(folder), _tokenizer(folder)
    prototypes = [F.normalize(encode(model, tokenizer, of_class).mean(0), dim=0) for of_class in texts.values()]
    return TextHead(
        torch.stack(prototypes), model.visual_projection.weight.detach().clone(), model.logit_scale.detach().clone()
    )


def encode(model: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Encode texts as directions [len(texts), dim] of length 1. Raises TrainingError for a text that is too long."""
    most_tokens = model.config.text_config.max_position_embeddings
    directions: list[Tensor] = []
    for start in range(0, len(texts), TEXT_BATCH):
        tokens = tokenizer(list(texts[start : start + TEXT_BATCH]), padding=True, return_tensors="pt")
        lengths = tokens["attention_mask"].sum(1)
        if lengths.max() > most_tokens:
            longest = texts[start + int(lengths.argmax())]
            raise TrainingError(
                f"found a prompt of {int(lengths.max())} tokens ({longest[:60]!r}...), expected at most {most_tokens}. "
                "Fix: use a shorter template or description"
            )
        with torch.inference_mode():
            pooled = model.text_model(**tokens).pooler_output
            directions.append(F.normalize(model.text_projection(pooled), dim=1))
    return torch.cat(directions).clone()


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise TrainingError(f"found no tokenizer in {folder}, expected tokenizer.json. Fix: save it next to the model")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
