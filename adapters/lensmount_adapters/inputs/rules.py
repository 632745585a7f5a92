"""The preprocessing rules that an adapter file states, for images and for volumes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from lensmount_adapters.strict import Strict

Finite = Annotated[float, Field(allow_inf_nan=False)]


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


MAX_INPUT_VOXELS = 2**23  # of a volume as the backbone sees it: 32 slices of 512 x 512


class Preprocessing(Strict):
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


class IntensityRange(Strict):
    """Intensities from `lower` to `upper` become 0 to 1, those beyond are clipped: a window in Hounsfield units."""

    kind: Literal["range"] = "range"
    lower: Finite
    upper: Finite

    @model_validator(mode="after")
    def _in_order(self) -> IntensityRange:
        if not self.lower < self.upper:
            raise ValueError(f"found a window from {self.lower:g} to {self.upper:g}, expected lower below upper")
        return self


class IntensityPercentiles(Strict):
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


class VolumePreprocessing(Strict):
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
