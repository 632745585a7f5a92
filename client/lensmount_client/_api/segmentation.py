"""The masks of one image as run lengths. They become pixels or an overlay without torch or a server."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lensmount_client._errors import InvalidInput
from lensmount_client._http.download import save_picture
from lensmount_client._types.results import AdapterId, Backbone

OPACITY = 0.45
_COLOURS = ((255, 82, 82), (66, 165, 245), (102, 187, 106), (255, 202, 40), (171, 71, 188), (38, 198, 218))


@dataclass(frozen=True)
class Mask:
    """The mask of one label. `counts` are COCO run lengths: by column, zeros first. `areas` has one per region."""

    label: str
    counts: tuple[int, ...]
    area: int
    count: int
    areas: tuple[int, ...]


@dataclass(frozen=True)
class Segmentation:
    """`segmentation.masks[0].count` regions; `segmentation.overlay("seen.png")`. `size` is (height, width)."""

    size: tuple[int, int]
    masks: tuple[Mask, ...]
    adapter: AdapterId
    backbone: Backbone
    request_id: str
    timing_ms: Mapping[str, float]
    image: bytes = field(repr=False, default=b"")

    def mask(self, label: str | None = None) -> list[bytes]:
        """One row of bytes, 0 or 255, for each row of the image. Without a label: the mask of the first one."""
        height, width = self.size
        mask = self._mask_of(label)
        flat, value = bytearray(), 0
        for count in mask.counts:
            flat += bytes([value]) * count
            value = 255 - value
        return [bytes(flat[row::height]) for row in range(height)] if width else []

    def overlay(self, path: str | Path) -> Path:
        """Write the image with its masks in colour. Needs Pillow. Raises CannotWrite, InvalidInput."""
        try:
            from PIL import Image, ImageOps
        except ModuleNotFoundError as error:
            raise InvalidInput("an overlay needs Pillow, which is not installed. Fix: pip install pillow") from error
        with Image.open(io.BytesIO(self.image)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        size = (self.size[1], self.size[0])
        for index, mask in enumerate(self.masks):
            alpha = Image.frombytes("L", size, b"".join(self.mask(mask.label)))
            colour = Image.new("RGB", size, _COLOURS[index % len(_COLOURS)])
            image.paste(colour, mask=alpha.point([round(OPACITY * value) for value in range(256)]))
        return save_picture(image, path)

    def _mask_of(self, label: str | None) -> Mask:
        masks = [mask for mask in self.masks if label in (None, mask.label)]
        if not masks:
            known = ", ".join(mask.label for mask in self.masks)
            raise InvalidInput(f"label: found {label!r}, expected one of {known}")
        return masks[0]
