"""Classify the regions of a large image that were drawn in QuPath, and write them back for QuPath to open.

In QuPath: File > Export objects as GeoJSON; then `python examples/qupath.py slide.png regions.geojson histology
out.geojson`; then drop out.geojson on the image. QuPath's menu Extensions > ImageJ sends regions to ImageJ and back.

Coordinates are pixels of the full image. QuPath (0.4 and later) writes a FeatureCollection, or a list of features;
each has `properties` with `objectType`, a `classification` of `name` and `color`, and `measurements` by name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from lensmount_client import Client, Prediction

COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (255, 127, 14), (148, 103, 189), (140, 86, 75))


def features_of(document: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The features of a FeatureCollection, of a list, or of one feature, as QuPath writes them."""
    features = document if isinstance(document, list) else document.get("features", [document])
    return [feature for feature in features if feature.get("geometry")]


def points_of(coordinates: Any) -> Iterator[tuple[float, float]]:
    """All points of a geometry, however deep its rings are nested."""
    if coordinates and isinstance(coordinates[0], int | float):
        yield float(coordinates[0]), float(coordinates[1])
    else:
        for inner in coordinates:
            yield from points_of(inner)


def tile_of(image: Image.Image, geometry: dict[str, Any]) -> Image.Image:
    """The smallest rectangle of whole pixels around a region, cut at the image's edges."""
    points = list(points_of(geometry["coordinates"]))
    left, top = (max(0, int(min(values))) for values in zip(*points, strict=True))
    right, bottom = (int(-(-max(values) // 1)) for values in zip(*points, strict=True))
    return image.crop((left, top, min(right, image.width), min(bottom, image.height)))


def classified(feature: dict[str, Any], answer: Prediction, labels: list[str]) -> dict[str, Any]:
    """The feature with the answer as its class and the scores as measurements; everything else stays."""
    colour = COLOURS[labels.index(answer.top.label) % len(COLOURS)]
    measured = {f"Lensmount: {score.label}": score.score for score in answer.predictions}
    old: dict[str, Any] = feature.get("properties") or {}
    properties = {
        "objectType": "annotation",
        **old,
        "classification": {"name": answer.top.label, "color": list(colour)},
        "measurements": {**named(old.get("measurements")), **measured},
        "metadata": {**named(old.get("metadata")), "Lensmount": f"{answer} {answer.adapter.digest}"},
    }
    return {**feature, "properties": properties}


def named(values: Any) -> dict[str, Any]:
    """Values by name; QuPath before 0.4 writes a list, which new scores replace."""
    return {} if values is None or isinstance(values, list) else values


def classify(image: Path, regions: Path, adapter: str, out: Path, client: Client) -> int:
    """Write `out`, a FeatureCollection with a class for each region. Returns the number of regions."""
    features = features_of(json.loads(regions.read_text()))
    labels = sorted(client.adapters.get(adapter.partition("@")[0].partition(":")[0]).labels)
    with Image.open(image) as whole:
        answers = [client.predict(tile_of(whole, f["geometry"]), adapter, top_k=len(labels)) for f in features]
    named = [classified(f, answer, labels) for f, answer in zip(features, answers, strict=True)]
    out.write_text(json.dumps({"type": "FeatureCollection", "features": named}))
    return len(named)


if __name__ == "__main__":
    with Client() as client:
        print(classify(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), client), "regions")
