"""Masks in the formats that clients request: run lengths with areas and counts, a PNG image, or polygons.

scikit-image is imported when a response first needs it, so servers of classification adapters start without it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.adapter.masks import masks_of
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_service.errors import RequestInvalid
from lensmount_service.web.negotiation import GEOJSON, JSON, PNG
from lensmount_service.web.schemas import Mask, Segmentation

MAX_POLYGONS = 10_000
TOLERANCE = 0.5  # pixels by which an outline may differ from its mask
_COLOURS = ((255, 82, 82), (66, 165, 245), (102, 187, 106), (255, 202, 40), (171, 71, 188), (38, 198, 218))


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """bool [labels, height, width] at the size of the image as sent, and the name of each label."""

    labels: tuple[str, ...]
    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]


def read_masks(manifest: Manifest, scores: Tensor, size: tuple[int, int]) -> Masks:
    """The masks of an image of `size` (width, height) from an adapter's scores [labels, h, w]."""
    head, rule = manifest.head, manifest.preprocessing
    assert isinstance(head, SegmentationHead)
    assert isinstance(rule, Preprocessing)  # admission refuses any other manifest
    return Masks(manifest.labels, masks_of(scores, size, rule, head.threshold))


def as_segmentation(masks: Masks) -> Segmentation:
    """The masks as part of the JSON response."""
    described = [
        Mask(label=name, counts=run_lengths(mask), area=int(mask.sum()), count=len(regions), areas=regions)
        for name, mask in zip(masks.labels, masks.pixels, strict=True)
        for regions in [areas(mask)]
    ]
    return Segmentation(size=masks.size, masks=described)


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: pixels column by column, zeros first, so the first may be 0."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs: list[int] = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return runs


def areas(mask: np.ndarray) -> list[int]:
    """The pixel count of each region, in reading order of their first pixels. Pixels connect by an edge or a corner."""
    from skimage.measure import label

    counts: list[int] = np.bincount(label(mask, connectivity=2).ravel())[1:].tolist()
    return counts


def as_png(masks: Masks) -> bytes:
    """8 bits with a palette: 0 is background and value i is the i-th label. If masks overlap, the first label wins."""
    values = np.zeros(masks.size, np.uint8)
    for index in reversed(range(len(masks.labels))):
        values[masks.pixels[index]] = index + 1
    image = Image.fromarray(values)
    image.putpalette([0, 0, 0, *(part for index in range(len(masks.labels)) for part in _colour(index))])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def as_geojson(masks: Masks) -> str:
    """One Feature per region, in pixels of the image: x to the right, y down, (0, 0) at the upper left corner.

    Each has an outer ring, then the region's holes. Raises RequestInvalid for more than MAX_POLYGONS regions.
    """
    features = [
        feature for name, mask in zip(masks.labels, masks.pixels, strict=True) for feature in _features(name, mask)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)


def _features(name: str, mask: np.ndarray) -> list[dict[str, Any]]:
    from skimage.measure import label, regionprops

    regions = regionprops(label(mask, connectivity=2))
    if len(regions) > MAX_POLYGONS:
        raise RequestInvalid(
            f"found {len(regions)} regions of {name!r}, expected at most {MAX_POLYGONS} as polygons. "
            "Fix: ask for application/json or image/png",
            code="too_many_regions",
        )
    return [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": _rings(region.image, region.bbox[:2])},
            "properties": {"label": name, "area": int(region.area)},
        }
        for region in regions
    ]


def _rings(image: np.ndarray, corner: Sequence[int]) -> list[list[list[float]]]:
    """The outlines of one region, the outer one first. They run between the centres of its inner and outer pixels."""
    from skimage.measure import approximate_polygon, find_contours

    top, left = corner
    contours = find_contours(np.pad(image, 1).astype(float), 0.5, fully_connected="high")
    contours.sort(key=lambda line: -float(np.ptp(line[:, 0]) * np.ptp(line[:, 1])))
    rings: list[list[list[float]]] = []
    for contour in contours:
        line = approximate_polygon(contour, TOLERANCE)
        line = line if len(line) >= 4 else contour  # a ring has at least three corners
        rings.append([[float(x) + left - 0.5, float(y) + top - 0.5] for y, x in line])
    return rings


def _colour(index: int) -> tuple[int, int, int]:
    return _COLOURS[index % len(_COLOURS)]


Drawing = Segmentation | bytes | str
FORMS: dict[str, Callable[[Masks], Drawing]] = {JSON: as_segmentation, PNG: as_png, GEOJSON: as_geojson}
