"""How many bytes and pixels an image may have, checked against its header before its pixels are read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from PIL import Image

from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of an image, checked against its header before its pixels are read."""

    max_image_bytes: int = 32 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 16_384

    def check_size(self, width: int, height: int) -> None:
        """Check an image's size in pixels. Raises ImageInvalid (no pixels) and ImageTooLarge."""
        if width < 1 or height < 1:
            raise ImageInvalid(
                f"found an image of {width} x {height}, expected at least 1 x 1. Fix: save the image again"
            )
        if width * height > self.max_pixels or max(width, height) > self.max_side:
            way_out = "scale it down before sending"
            if max(width, height) <= self.max_side and width * height <= pillow_pixels():
                way_out += ", or raise max_pixels (train --max-pixels; LENSMOUNT_MAX_PIXELS of servers and workers)"
            raise ImageTooLarge(
                f"found an image of {width} x {height}, expected at most {self.max_pixels} pixels "
                f"and {self.max_side} per side. Fix: {way_out}"
            )


class Stated(ImageError):
    """The header of an image states more pixels than are to be decoded now."""

    def __init__(self, pixels: int) -> None:
        super().__init__("")
        self.pixels = pixels


@dataclass(frozen=True, slots=True)
class UpTo(ImageLimits):
    """Limits that end the decoding of an image of more than `most` pixels where its size is known, by `Stated`.

    Each decoder checks the size before it reads pixels.
    """

    most: int = 0

    @classmethod
    def of(cls, limits: ImageLimits, most: int) -> UpTo:
        return cls(limits.max_image_bytes, limits.max_pixels, limits.max_side, most)

    def check_size(self, width: int, height: int) -> None:
        ImageLimits.check_size(self, width, height)
        if width * height > self.most:
            raise Stated(width * height)


def pillow_pixels() -> float:
    """The most pixels that Pillow opens: twice its warning limit. It has no limit if a program has removed it."""
    return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float("inf")


def above_pillow(error: Exception, max_pixels: int) -> str:
    """What was found and expected where Pillow has refused an image, with the limit that holds.

    `error` is its DecompressionBombError, or its warning at half of that where warnings are errors. Their text begins
    with the number of pixels.
    """
    most = pillow_pixels() / (2 if isinstance(error, Warning) else 1)
    found = re.search(r"\((\d+) pixels\)", str(error))
    words = f"an image of {found[1]} pixels" if found else "more pixels than the limit"
    if most <= max_pixels:
        return f"found {words}, expected at most {most:.0f}, the limit of Pillow, which reads this format"
    return f"found {words}, expected at most {max_pixels}"


def check_frames(frames: int, what: str, way_out: str) -> None:
    """Raise ImageTooLarge (`image_too_many_frames`) if `what`, such as "an animated GIF", has more than one frame."""
    if frames > 1:
        raise ImageTooLarge(f"found {what}, expected one frame. Fix: {way_out}", code="image_too_many_frames")
