"""The manifest: what an adapter file says of itself, one strict JSON document in the safetensors metadata.

It is a document from outside, so pydantic judges it: unknown fields, wrong types and values out of range are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from lensmount_adapters.errors import AdapterInvalid

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=1_000_000)]

MAX_INPUT_VOXELS = 2**23  # of a volume as the backbone sees it: 32 slices of 512 x 512


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BackboneRef(_Strict):
    """The backbone an adapter was made for: its timm name and its fingerprint."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    fingerprint: Digest


class Preprocessing(_Strict):
    """From a decoded RGB image to the backbone's input [3, height, width].

    `resize`: "squash" scales the whole picture to `size`; "crop" takes the centred box of the target's shape that
    holds `crop_fraction` of the shorter side and scales it; "pad" scales the whole picture to fit and fills with black.
    `mean` and `std` apply to values in [0, 1]. `orientations`: logits are averaged over so many orientations of the
    input (2: mirrored, 4: quarter turns, 8: both), for pictures without an up and a down.
    """

    size: tuple[Annotated[int, Field(ge=16, le=1024)], Annotated[int, Field(ge=16, le=1024)]]
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    orientations: Literal[1, 2, 4, 8] = 1

    @model_validator(mode="after")
    def _quarter_turns_need_a_square(self) -> Preprocessing:
        if self.orientations > 2 and self.size[0] != self.size[1]:
            raise ValueError(f"found {self.orientations} orientations of {self.size}, expected a square size")
        return self

    @field_validator("size", "mean", "std", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value  # JSON has no tuples, and strict mode wants one

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[3, height, width]"""
        return (3, *self.size)

    def __str__(self) -> str:
        return f"{self.size[0]} x {self.size[1]}, {self.resize}"


class IntensityRange(_Strict):
    """Intensities from `lower` to `upper` become 0 to 1, those beyond are clipped: a window in Hounsfield units."""

    kind: Literal["range"] = "range"
    lower: Finite
    upper: Finite

    @model_validator(mode="after")
    def _in_order(self) -> IntensityRange:
        if not self.lower < self.upper:
            raise ValueError(f"found a window from {self.lower:g} to {self.upper:g}, expected lower below upper")
        return self


class IntensityPercentiles(_Strict):
    """As IntensityRange, from these percentiles of each volume's own voxels: where intensities have no unit, as in MRI.

    A volume of one intensity becomes 0.
    """

    kind: Literal["percentiles"] = "percentiles"
    lower: Annotated[float, Field(ge=0, lt=100)] = 0.5
    upper: Annotated[float, Field(gt=0, le=100)] = 99.5

    @model_validator(mode="after")
    def _in_order(self) -> IntensityPercentiles:
        if not self.lower < self.upper:
            raise ValueError(f"found percentiles {self.lower:g} and {self.upper:g}, expected lower below upper")
        return self


class VolumePreprocessing(_Strict):
    """From a decoded volume [slices, height, width] to the input [3, depth, height, width] of a backbone of volumes.

    `depth_resize`: "resample" interpolates the slices linearly to `depth` of them; "crop" takes the middle ones, and
    adds slices of 0 on both sides where there are fewer. Each slice is scaled as a whole to `size`. `window` brings
    intensities to [0, 1], where `mean` and `std` apply; grey is repeated into three channels. `orientations` are those
    of `Preprocessing`, of every slice alike.
    """

    kind: Literal["volume"] = "volume"
    depth: Annotated[int, Field(ge=1, le=512)]
    size: tuple[Annotated[int, Field(ge=16, le=1024)], Annotated[int, Field(ge=16, le=1024)]]
    depth_resize: Literal["resample", "crop"] = "resample"
    window: Annotated[IntensityRange | IntensityPercentiles, Field(discriminator="kind")] = IntensityPercentiles()
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    orientations: Literal[1, 2, 4, 8] = 1

    @model_validator(mode="after")
    def _is_no_more_than_can_be_computed(self) -> VolumePreprocessing:
        if self.orientations > 2 and self.size[0] != self.size[1]:
            raise ValueError(f"found {self.orientations} orientations of {self.size}, expected a square size")
        if self.depth * self.size[0] * self.size[1] > MAX_INPUT_VOXELS:
            raise ValueError(f"found {self}, expected at most {MAX_INPUT_VOXELS} voxels")
        return self

    @field_validator("size", "mean", "std", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[3, depth, height, width]"""
        return (3, self.depth, *self.size)

    def __str__(self) -> str:
        return f"{self.depth} x {self.size[0]} x {self.size[1]}, {self.depth_resize}"


def _kind_of_input(value: Any) -> str:
    """Files of before there were volumes do not name their kind: it is that of images."""
    found = value.get("kind", "image") if isinstance(value, dict) else getattr(value, "kind", "image")
    return found if isinstance(found, str) else ""


InputRule = Annotated[
    Annotated[Preprocessing, Tag("image")] | Annotated[VolumePreprocessing, Tag("volume")],
    Discriminator(_kind_of_input),
]


class LinearLayer(_Strict):
    type: Literal["linear"] = "linear"
    in_features: Count
    out_features: Count


class BatchNormLayer(_Strict):
    type: Literal["batch_norm"] = "batch_norm"
    features: Count


class LeakyReluLayer(_Strict):
    type: Literal["leaky_relu"] = "leaky_relu"
    negative_slope: Annotated[float, Field(ge=0, le=1)] = 0.01


class DropoutLayer(_Strict):
    type: Literal["dropout"] = "dropout"
    p: Annotated[float, Field(ge=0, lt=1)] = 0.5


MlpLayer = Annotated[LinearLayer | BatchNormLayer | LeakyReluLayer | DropoutLayer, Field(discriminator="type")]


class _Head(_Strict):
    activation: Literal["softmax", "sigmoid"] = "softmax"
    temperature: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0


class LinearHead(_Head):
    """`head.weight` [classes, features], `head.bias` [classes]."""

    kind: Literal["linear"] = "linear"


class MlpHead(_Head):
    """`head.<index>.<param>` of the layers in order; the last layer is linear and has one output a class."""

    kind: Literal["mlp"] = "mlp"
    layers: Annotated[tuple[MlpLayer, ...], Field(min_length=1, max_length=32)]

    @field_validator("layers", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class CosineHead(_Head):
    """`head.prototypes` [classes, dim], `head.logit_scale` []: exp(logit_scale) times the cosine to each prototype.

    `head.projection` [dim, features] maps features into the prototypes' space where `projected` is set (CLIP).
    """

    kind: Literal["cosine"] = "cosine"
    dim: Count
    projected: bool = False


class SegmentationHead(_Head):
    """A 1x1 convolution over maps of features: `head.weight` [labels, features, 1, 1], `head.bias` [labels].

    One mask a label, apart from all others: a pixel belongs to it where its score is at least `threshold`.
    """

    kind: Literal["segmentation"] = "segmentation"
    activation: Literal["sigmoid"] = "sigmoid"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5


HeadSpec = Annotated[LinearHead | MlpHead | CosineHead | SegmentationHead, Field(discriminator="kind")]

MAX_MASKS = 32  # labels of a segmentation: each is a map of scores as large as the picture


class Factors(_Strict):
    """Rank and alpha of one module's low-rank delta; its scale is `alpha / rank`."""

    rank: Annotated[int, Field(ge=1, le=1024)]
    alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class Manifest(_Strict):
    """What an adapter file says of itself. `Manifest.parse(text)` reads it, `manifest.dump()` writes it."""

    schema_version: Literal[1] = 1
    name: Name
    method: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    backbone: BackboneRef
    preprocessing: InputRule
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=10_000)]
    head: HeadSpec
    modules: dict[Annotated[str, StringConstraints(min_length=1, max_length=256)], Factors] = {}
    training: dict[str, Any] = {}
    license: Text = ""
    description: Text = ""

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
    def _masks_cover_the_picture(self) -> Manifest:
        if not isinstance(self.head, SegmentationHead):
            return self
        if not isinstance(self.preprocessing, Preprocessing):
            raise ValueError("found preprocessing of volumes for masks, expected that of pictures")
        if self.preprocessing.resize == "crop":
            raise ValueError("found resize crop for masks, expected squash or pad: they cover the whole picture")
        if len(self.labels) > MAX_MASKS:
            raise ValueError(f"found {len(self.labels)} labels for masks, expected at most {MAX_MASKS}")
        return self

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Judge the manifest's JSON; raises AdapterInvalid (`manifest_invalid`) naming the first wrong field."""
        try:
            document = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
            json.dumps(document, ensure_ascii=False, allow_nan=False).encode()  # refuses 1e999 and lone surrogates
            manifest = cls.model_validate(document)
            manifest.dump()  # refuses what is nested too deep to be written again
            return manifest
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])[:120] or "manifest"
            raise AdapterInvalid(
                f"manifest, {where}: {first['msg']}. Cure: see docs/adapters.md for the fields",
                code="manifest_invalid",
            ) from error
        except (ValueError, RecursionError) as error:
            raise AdapterInvalid(
                f"manifest: found text that is not a strict JSON document ({str(error)[:120]}), expected one object",
                code="manifest_invalid",
            ) from error

    def dump(self) -> str:
        """The manifest as JSON with sorted keys: equal manifests give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, allow_nan=False)

    def scales(self) -> dict[str, float]:
        return {module: factors.scale for module, factors in self.modules.items()}


def check_name(name: str) -> bool:
    """Whether `name` may name an adapter: lower case, digits, dots, dashes, underscores; 64 characters at most."""
    return re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name) is not None and name not in RESERVED_NAMES


RESERVED_NAMES = frozenset({"base", "none", "default", "latest", "con", "nul", "aux", "prn"})


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return document


def _no_constant(name: str) -> Mapping[str, Any]:
    raise ValueError(f"{name} is not a JSON number")
