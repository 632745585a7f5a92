"""The words for heads on the command line, in jobs and in recipes, such as `linear`, `mlp:256`, `cosine` or `text`.

| word | head |
|---|---|
| `linear` | one linear layer: the smallest head |
| `mlp:512,256` | linear, BatchNorm, LeakyReLU 0.1, Dropout 0.5 per width; then linear (the seed "malaria") |
| `cosine` | one prototype per class, of the same dimension as the features |
| `cosine:512` | prototypes of 512 dimensions, after a projection of the features |
| `text` | like `cosine`, initialised from prompts (text/text_prototypes.py) |
| `segmentation` | a 1x1 convolution: one mask per label, for a backbone that gives maps of features |
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
    """Split "mlp:512,256" into ("mlp", (512, 256)). Raises TrainingError for a word that does not name a head."""
    match = _WORD.fullmatch(text)
    if match is None:
        raise TrainingError(
            f"found head {text[:80]!r}, expected linear, mlp:WIDTH[,WIDTH...] such as mlp:256, cosine[:WIDTH], text "
            "or segmentation"
        )
    widths = match[1] or match[2] or ""
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
