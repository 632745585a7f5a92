"""What can be said about an image without looking at what it shows: its file, its border, its mean colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lensmount_adapters.data.broken_files import Unreadable, broken_files
from lensmount_adapters.data.dataset import ImageFolder
from lensmount_adapters.data.image_facts import ImageFacts, facts_of
from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.inputs.images import decode_image

_VALUES = 16  # of a trait that become columns; the rarer ones count as one
_SIDE = 16  # pixels of the small copy that colours are measured on


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """The facts about one image file, and the mean colours, 0 to 255, of the whole and of its four sides [4, 3]."""

    facts: ImageFacts
    colour: np.ndarray
    sides: np.ndarray


def surfaces_of(folder: ImageFolder, on_progress: Callable[[int, int], None] | None = None) -> list[Surface]:
    """Decode every image of a dataset once. Raises a DatasetError that lists all files that cannot be read."""
    surfaces: list[Surface] = []
    broken: list[Unreadable] = []
    for done, sample in enumerate(folder.samples, start=1):
        try:
            data = folder.read(sample.path)
            image = decode_image(data, folder.limits)
        except (ImageError, DatasetError, OSError) as error:
            broken.append(Unreadable(sample.path, str(error)))
            continue
        facts = facts_of(data, image, sample.path, folder.classes[sample.label], sample.group, sample.split)
        surfaces.append(surface_of(image, facts))
        if on_progress is not None:
            on_progress(done, len(folder))
    if broken:
        raise DatasetError(f"{broken_files(str(folder.root), len(folder), broken)}\nFix: repair or remove these files")
    return surfaces


def surface_of(image: Image.Image, facts: ImageFacts) -> Surface:
    """Measure the colours of an RGB image."""
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    sides = np.stack([small[0].mean(0), small[-1].mean(0), small[:, 0].mean(0), small[:, -1].mean(0)])
    return Surface(facts, small.mean(axis=(0, 1)), sides)


def columns_of(surfaces: Sequence[Surface]) -> dict[str, np.ndarray]:
    """Return the numbers of each kind of surface, float32 [N, columns]: "file", "border" and "colour".

    "file" has the size in pixels, the bytes per pixel and the traits of the header, one column for each value. "border"
    is measured from the mean colour on, which it would repeat otherwise.
    """
    facts = [surface.facts for surface in surfaces]
    pixels = np.array([(fact.width, fact.height) for fact in facts], np.float64)
    density = np.array([fact.size_bytes for fact in facts]) / pixels.prod(axis=1)
    numbers = [np.log(pixels[:, 0]), np.log(pixels[:, 1]), np.log(pixels[:, 0] / pixels[:, 1]), np.log(density)]
    names = dict.fromkeys(name for fact in facts for name in fact.traits if not name.startswith("border"))
    for name in names:
        values = [fact.traits.get(name, "") for fact in facts]
        numbers += [
            np.array([value == common for value in values]) for common, _ in Counter(values).most_common(_VALUES)
        ]
    colour = np.stack([surface.colour for surface in surfaces])
    sides = np.stack([surface.sides for surface in surfaces])  # [N, 4, 3]
    border = np.concatenate([(sides - colour[:, None]).reshape(len(sides), -1), sides.std(axis=1)], axis=1)
    return {
        "file": np.stack(numbers, axis=1).astype(np.float32),
        "border": border.astype(np.float32),
        "colour": colour.astype(np.float32),
    }
