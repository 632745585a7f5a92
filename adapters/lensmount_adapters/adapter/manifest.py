"""The manifest: an adapter file's description of itself, one strict JSON object in the safetensors metadata.

It comes from outside, so pydantic checks it: unknown fields, wrong types and values out of range are refused.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.backbone.fingerprint import BackboneRef
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.inputs.rules import InputRule, Preprocessing
from lensmount_adapters.strict import Strict, first_fault, parse_json, whole

Text = Annotated[str, StringConstraints(max_length=4096)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class LinearLayer(Strict):
    type: Literal["linear"] = "linear"
    in_features: Count
    out_features: Count


class BatchNormLayer(Strict):
    type: Literal["batch_norm"] = "batch_norm"
    features: Count


class LeakyReluLayer(Strict):
    type: Literal["leaky_relu"] = "leaky_relu"
    negative_slope: Annotated[float, Field(ge=0, le=1)] = 0.01


class DropoutLayer(Strict):
    type: Literal["dropout"] = "dropout"
    p: Annotated[float, Field(ge=0, lt=1)] = 0.5


MlpLayer = Annotated[LinearLayer | BatchNormLayer | LeakyReluLayer | DropoutLayer, Field(discriminator="type")]


class _Head(Strict):
    activation: Literal["softmax", "sigmoid"] = "softmax"
    temperature: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0


class LinearHead(_Head):
    """`head.weight` [classes, features], `head.bias` [classes]."""

    kind: Literal["linear"] = "linear"


class MlpHead(_Head):
    """`head.<index>.<param>` of the layers in order; the last layer is linear and has one output per class."""

    kind: Literal["mlp"] = "mlp"
    layers: Annotated[tuple[MlpLayer, ...], Field(min_length=1, max_length=32)]

    @field_validator("layers", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class CosineHead(_Head):
    """`head.prototypes` [classes, dim], `head.logit_scale` []: exp(logit_scale) times the cosine to each prototype.

    If `projected` is set, `head.projection` [dim, features] maps features to the prototypes' dimension (CLIP).
    """

    kind: Literal["cosine"] = "cosine"
    dim: Count
    projected: bool = False


class SegmentationHead(_Head):
    """A 1x1 convolution over maps of features: `head.weight` [labels, features, 1, 1], `head.bias` [labels].

    Each label has its own mask, independent of the others: the pixels whose score is at least `threshold`.
    """

    kind: Literal["segmentation"] = "segmentation"
    activation: Literal["sigmoid"] = "sigmoid"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5


HeadSpec = Annotated[LinearHead | MlpHead | CosineHead | SegmentationHead, Field(discriminator="kind")]


class FeaturesHead(Strict):
    """No head: the answer is the backbone's features themselves. No adapter file has it (draft/features.py)."""

    kind: Literal["features"] = "features"


MAX_MASKS = 32  # labels of a segmentation: each is a map of scores as large as the image


class Factors(Strict):
    """Rank and alpha of one module's low-rank delta; its scale is `alpha / rank`.

    A negative alpha subtracts what a positive one adds. Admission compares the rank with the layer's own.
    """

    rank: Count
    alpha: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class Manifest(Strict):
    """An adapter file's description of itself. `Manifest.parse(text)` reads it, `manifest.dump()` writes it."""

    # adapter/schema.py; `dump_adapter` writes the lowest that holds the file
    schema_version: Annotated[Literal[1, 2], BeforeValidator(whole)] = 1
    name: Name
    method: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    backbone: BackboneRef
    preprocessing: InputRule
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=10_000)]
    head: HeadSpec
    modules: dict[Annotated[str, StringConstraints(min_length=1, max_length=256)], Factors] = Field(
        default_factory=dict
    )
    training: dict[str, Any] = Field(default_factory=dict)
    license: Text = ""
    description: Text = ""
    trust: Trust | None = None  # left out of the JSON if None, as in files of before it
    titles: dict[Label, Label] = Field(default_factory=dict)  # how people read a label; left out as well if empty

    @field_validator("labels", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Manifest:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("found a label twice, expected distinct labels")
        return self

    @model_validator(mode="after")
    def _titles_are_of_labels(self) -> Manifest:
        if unknown := self.titles.keys() - set(self.labels):
            raise ValueError(f"found a title for {min(unknown)!r}, expected titles for labels of the adapter")
        return self

    @model_validator(mode="after")
    def _masks_cover_the_image(self) -> Manifest:
        if not isinstance(self.head, SegmentationHead):
            return self
        if not isinstance(self.preprocessing, Preprocessing):
            raise ValueError("found preprocessing of volumes for masks, expected preprocessing of images")
        if self.preprocessing.resize == "crop":
            raise ValueError("found resize crop for masks, expected squash or pad: they cover the whole image")
        if len(self.labels) > MAX_MASKS:
            raise ValueError(f"found {len(self.labels)} labels for masks, expected at most {MAX_MASKS}")
        return self

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Check the manifest's JSON. Raises AdapterInvalid (`manifest_invalid`), which names the first wrong field."""
        try:
            manifest = cls.model_validate(parse_json(text))
            manifest.dump()  # refuses a value that is nested too deep to be written again
            return manifest
        except ValidationError as error:
            where, fault = first_fault(error)
            raise AdapterInvalid(
                f"manifest, {where or 'manifest'}: {fault}. Fix: see docs/adapters.md for the fields",
                code="manifest_invalid",
            ) from error
        except (ValueError, RecursionError) as error:
            raise AdapterInvalid(
                f"manifest: found text that is not strict JSON ({str(error)[:120]}), expected one object. "
                "Fix: write the file with lensmount_adapters.write_adapter",
                code="manifest_invalid",
            ) from error

    def dump(self) -> str:
        """The manifest as JSON with sorted keys: equal manifests give equal text."""
        absent = {name for name in ("trust", "titles") if not getattr(self, name)}
        document = self.model_dump(mode="json", exclude=absent)
        return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False)

    def scales(self) -> dict[str, float]:
        """The scale of each module's low-rank delta."""
        return {module: factors.scale for module, factors in self.modules.items()}


def check_name(name: str) -> bool:
    """Return True if `name` may name an adapter: up to 64 of lower case, digits, dots, dashes and underscores."""
    return re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name) is not None and name not in RESERVED_NAMES


RESERVED_NAMES = frozenset({"base", "none", "default", "latest", "con", "nul", "aux", "prn"})
