"""The answer of POST /explain: a grid of values, drawn over its image without torch or a server."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lensmount_client._errors import InvalidInput
from lensmount_client._html.heat import OPACITY, colour, heat_svg, shades
from lensmount_client._html.markup import bars, frame, line
from lensmount_client._http.download import save_picture
from lensmount_client._types.results import AdapterId, Backbone


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

    def __str__(self) -> str:
        return f"{self.label} {self.score:.1%} ({self.adapter.name}@{self.adapter.version}), by {self.method}"

    def _repr_html_(self) -> str:
        """The image with the values over it, and the score as a bar, for notebooks."""
        told = f"what speaks for {self.label}"
        words = line(f"{told}, by {self.method}", strong=True) + bars([(self.label, self.score)])
        return frame(heat_svg(self.image, self.values, self.size, self.box, told), words)

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
        left, top, right, bottom = (round(edge) for edge in self.box)
        heat = Image.frombytes("L", (self.grid[1], self.grid[0]), bytes(shades(self.values)))
        heat = heat.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR)
        heat_map = Image.new("L", image.size)
        heat_map.paste(heat, (left, top))
        ramps = zip(*map(colour, range(256)), strict=True)  # one part of the colour for each shade
        coloured = Image.merge("RGB", [heat_map.point(list(ramp)) for ramp in ramps])
        image.paste(coloured, mask=heat_map.point([round(OPACITY * value) for value in range(256)]))
        return save_picture(image, path)
