"""The preprocessing rules in an adapter file, for images and for volumes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from lensmount_adapters.strict import Strict, whole

Finite = Annotated[float, Field(allow_inf_nan=False)]


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


MAX_INPUT_VOXELS = 2**23  # of a volume at the backbone's input: 32 slices of 512 x 512


class Preprocessing(Strict):
    """From a decoded RGB image to the backbone's input [3, height, width].

    `resize`: "squash" scales the whole image to `size`; "crop" takes the centred box of the target's shape that covers
    `crop_fraction` of the shorter side and scales it; "pad" scales the whole image to fit and fills with black.
    `mean` and `std` apply to values in [0, 1]. `orientations` is the number of orientations of the input that logits
    are averaged over (2: mirrored, 4: quarter turns, 8: both), for images with no fixed orientation.
    """

    size: tuple[Annotated[int, Field(ge=16, le=1024)], Annotated[int, Field(ge=16, le=1024)]]
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    orientations: Annotated[Literal[1, 2, 4, 8], BeforeValidator(whole)] = 1

    @model_validator(mode="after")
    def _quarter_turns_need_a_square(self) -> Preprocessing:
        if self.orientations > 2 and self.size[0] != self.size[1]:
            raise ValueError(f"found {self.orientations} orientations of {self.size}, expected a square size")
        return self

    @field_validator("size", "mean", "std", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value  # JSON has no tuples, but strict mode requires one

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[3, height, width]"""
        return (3, *self.size)

    def __str__(self) -> str:
        return f"{self.size[0]} x {self.size[1]}, {self.resize}"


class IntensityRange(Strict):
    """Map intensities from `lower` to `upper` to [0, 1] and clip the rest, as a window in Hounsfield units does."""

    kind: Literal["range"] = "range"
    lower: Finite
    upper: Finite

    @model_validator(mode="after")
    def _in_order(self) -> IntensityRange:
        if not self.lower < self.upper:
            raise ValueError(f"found a window from {self.lower:g} to {self.upper:g}, expected lower below upper")
        return self


class IntensityPercentiles(Strict):
    """Like IntensityRange, but the limits are percentiles of each volume's own voxels.

    This suits intensities without a unit, as in MRI. A volume of a single intensity becomes 0.
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
    """From a decoded volume [slices, height, width] to the input [3, depth, height, width] of a volume backbone.

    `depth_resize`: "resample" interpolates the slices linearly to `depth` of them; "crop" takes the middle ones, and
    adds slices of 0 on both sides if there are fewer. Each slice is scaled as a whole to `size`. `window` maps
    intensities to [0, 1], where `mean` and `std` apply. Grey is repeated into three channels. `orientations` has the
    same meaning as in `Preprocessing` and applies to every slice alike.
    """

    kind: Literal["volume"] = "volume"
    depth: Annotated[int, Field(ge=1, le=512)]
    size: tuple[Annotated[int, Field(ge=16, le=1024)], Annotated[int, Field(ge=16, le=1024)]]
    depth_resize: Literal["resample", "crop"] = "resample"
    window: Annotated[IntensityRange | IntensityPercentiles, Field(discriminator="kind")] = IntensityPercentiles()
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    orientations: Annotated[Literal[1, 2, 4, 8], BeforeValidator(whole)] = 1

    @model_validator(mode="after")
    def _stays_within_what_can_be_computed(self) -> VolumePreprocessing:
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
    """Return the kind of a rule. Files from before volumes existed do not name it; they are for images."""
    kind = value.get("kind", "image") if isinstance(value, dict) else getattr(value, "kind", "image")
    return kind if isinstance(kind, str) else ""


InputRule = Annotated[
    Annotated[Preprocessing, Tag("image")] | Annotated[VolumePreprocessing, Tag("volume")],
    Discriminator(_kind_of_input),
]
