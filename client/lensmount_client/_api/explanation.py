"""The answer of POST /explain: a grid of values, drawn over its image without torch or a server."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lensmount_client._errors import InvalidInput
from lensmount_client._http.download import save_picture
from lensmount_client._types.results import AdapterId, Backbone

OPACITY = 0.75
_COLOURS = ((255, 213, 79), (245, 124, 0), (198, 20, 40))  # from small to large values: yellow, orange, red


@dataclass(frozen=True)
class Explanation:
    """`explanation.save("why.png")`. Which parts of an image speak for `label`, whose score is in [0, 1].

    `values` has one row of numbers for each row of `grid` (rows, columns). Larger values speak for the label. The grid
    lies at `box` (left, top, right, bottom) in the image, whose `size` is (height, width).
    """

    label: str
    score: float
    method: str
    grid: tuple[int, int]
    values: tuple[tuple[float, ...], ...]
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    adapter: AdapterId
    backbone: Backbone
    request_id: str
    timing_ms: Mapping[str, float]
    image: bytes = field(repr=False, default=b"")

    def save(self, path: str | Path) -> Path:
        """Write the image with the values over it. Needs Pillow. Raises CannotWrite, InvalidInput."""
        try:
            from PIL import Image, ImageOps
        except ModuleNotFoundError as error:
            raise InvalidInput(
                "to draw an explanation, Pillow must be installed. "
                "Fix: pip install pillow, or explanation_png(), which the server draws"
            ) from error
        try:
            with Image.open(io.BytesIO(self.image)) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except OSError as error:
            raise InvalidInput(
                f"found an image that Pillow cannot read ({error}). Fix: explanation_png(), which the server draws"
            ) from error
        largest = max(max(row) for row in self.values)
        greys = [round(255 * max(value, 0) / largest) if largest > 0 else 0 for row in self.values for value in row]
        left, top, right, bottom = (round(edge) for edge in self.box)
        heat = Image.frombytes("L", (self.grid[1], self.grid[0]), bytes(greys))
        heat = heat.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR)
        heat_map = Image.new("L", image.size)
        heat_map.paste(heat, (left, top))
        coloured = Image.merge("RGB", [heat_map.point(_ramp(*part)) for part in zip(*_COLOURS, strict=True)])
        image.paste(coloured, mask=heat_map.point([round(OPACITY * value) for value in range(256)]))
        return save_picture(image, path)


def _ramp(low: int, middle: int, high: int) -> list[int]:
    """A part of the colour for each of the values 0 to 255."""
    return [
        round(low + (middle - low) * value / 128 if value < 128 else middle + (high - middle) * (value - 128) / 127)
        for value in range(256)
    ]
