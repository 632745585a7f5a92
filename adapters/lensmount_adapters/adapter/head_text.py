"""A head in one word: `linear`, `mlp:256`, `cosine` or `text`, as the command line, a job and a recipe name it.

| word | head |
|---|---|
| `linear` | one linear layer: the lean head |
| `mlp:512,256` | for each width linear, BatchNorm, LeakyReLU 0.1, Dropout 0.5; then linear (the seed "malaria") |
| `cosine` | one prototype a class in the space of the features |
| `cosine:512` | prototypes of 512 dimensions behind a projection |
| `text` | the same, started from prompts (training/text_prototypes.py) |
| `segmentation` | a 1x1 convolution: a mask for each label, on a backbone that gives maps of features |
"""

from __future__ import annotations

import re

from lensmount_adapters.adapter.manifest import (
    BatchNormLayer,
    CosineHead,
    DropoutLayer,
    HeadSpec,
    LeakyReluLayer,
    LinearHead,
    LinearLayer,
    MlpHead,
    MlpLayer,
    SegmentationHead,
)
from lensmount_adapters.errors import TrainingError

NEGATIVE_SLOPE, DROPOUT = 0.1, 0.5
_WORD = re.compile(r"linear|text|segmentation|cosine|cosine:([1-9]\d{0,4})|mlp:([1-9]\d{0,4}(?:,[1-9]\d{0,4}){0,6})")


def parse_head(text: str) -> tuple[str, tuple[int, ...]]:
    """ "mlp:512,256" -> ("mlp", (512, 256)); raises TrainingError for a word that names no head."""
    found = _WORD.fullmatch(text)
    if found is None:
        raise TrainingError(
            f"found head {text[:80]!r}, expected linear, mlp:WIDTH[,WIDTH...] such as mlp:256, cosine[:WIDTH], text "
            "or segmentation"
        )
    widths = found[1] or found[2] or ""
    return text.partition(":")[0], tuple(int(width) for width in widths.split(",") if width)


def head_of(text: str, features: int, classes: int) -> HeadSpec:
    """The head that the word names, for `features` inputs and `classes` outputs. Raises TrainingError."""
    kind, widths = parse_head(text)
    if kind == "text":
        raise TrainingError("found head text without prompts, expected both. Fix: --prompts FILE.toml")
    if kind == "linear":
        return LinearHead()
    if kind == "segmentation":
        return SegmentationHead()
    if kind == "cosine":
        return CosineHead(dim=widths[0], projected=True) if widths else CosineHead(dim=features)
    layers: list[MlpLayer] = []
    for before, width in zip((features, *widths), widths, strict=False):
        layers += [
            LinearLayer(in_features=before, out_features=width),
            BatchNormLayer(features=width),
            LeakyReluLayer(negative_slope=NEGATIVE_SLOPE),
            DropoutLayer(p=DROPOUT),
        ]
    return MlpHead(layers=(*layers, LinearLayer(in_features=widths[-1], out_features=classes)))
