"""A dataset of images with masks: `images/`, `masks/` with files of the same names, and `index.csv` to select by.

A mask is an image of the same size as its image, and 0 is background. With one label every other value is that label.
With several labels, value i is the i-th label, as in the masks that a server returns.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lensmount_adapters.data.source import is_input_name, order_of
from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES, decode_image

INDEX = "index.csv"


@dataclass(frozen=True, slots=True)
class MaskedImage:
    """One image and its mask, as paths below the dataset. `digest` covers both files."""

    image: str
    mask: str
    digest: str


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """A dataset of masks, as `read_mask_folder(Path("nuclei"), ("nucleus",), "modality=fluorescence")` returns it."""

    root: Path
    labels: tuple[str, ...]
    samples: tuple[MaskedImage, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        return digest_of_masked(self.samples)

    def image(self, sample: MaskedImage) -> Image.Image:
        """Read the RGB image of a sample. Raises a DatasetError that names the file."""
        try:
            return decode_image((self.root / sample.image).read_bytes())
        except (ImageError, OSError) as error:
            raise DatasetError(f"{sample.image}: {error}") from error

    def masks(self, sample: MaskedImage, size: tuple[int, int]) -> np.ndarray:
        """Read the masks, bool [labels, height, width], of an image of `size` (width, height). Raises DatasetError."""
        try:
            with Image.open(io.BytesIO((self.root / sample.mask).read_bytes())) as image:
                values, mask_size = np.array(image), image.size
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise DatasetError(
                f"{sample.mask}: found a file that is not an image ({error}), expected a mask"
            ) from error
        if values.ndim != 2 or mask_size != size:
            raise DatasetError(
                f"{sample.mask}: found {mask_size[0]} x {mask_size[1]} with "
                f"{1 if values.ndim == 2 else values.shape[-1]} channel(s), "
                f"expected one channel of {size[0]} x {size[1]}, as in its image"
            )
        if len(self.labels) == 1:
            masks: np.ndarray = (values > 0)[None]
            return masks
        if values.max() > len(self.labels):
            raise DatasetError(
                f"{sample.mask}: found the value {values.max()}, expected at most {len(self.labels)}, one per label"
            )
        masks = values[None] == np.arange(1, len(self.labels) + 1)[:, None, None]
        return masks


def read_mask_folder(root: Path, labels: Sequence[str], where: str | None = None) -> MaskFolder:
    """List the images with their masks. `where` "COLUMN=VALUE" keeps those whose row in index.csv has this value.

    Raises DatasetError if folders, the index or masks are missing, or if no image is left.
    """
    for name in ("images", "masks"):
        if not (root / name).is_dir():
            raise DatasetError(
                f"{root}: found no folder {name}, expected images/ and masks/ with files of the same names"
            )
    names = sorted((p.name for p in (root / "images").iterdir() if is_input_name(p.name, IMAGE_SUFFIXES)), key=order_of)
    if where is not None:
        selected = _selected(root, where)
        names = [name for name in names if name in selected]
    if not names:
        raise DatasetError(
            f"{root}: found no image{f' with {where}' if where else ''}, expected at least one in images/"
        )
    masks = {Path(p.name).stem: p.name for p in (root / "masks").iterdir() if is_input_name(p.name, IMAGE_SUFFIXES)}
    if missing := [name for name in names if Path(name).stem not in masks]:
        raise DatasetError(f"{root}: found no mask for {missing[0]} and {len(missing) - 1} more, expected one for each")
    return MaskFolder(root, tuple(labels), tuple(_sample(root, name, masks[Path(name).stem]) for name in names))


def digest_of_masked(samples: Sequence[MaskedImage]) -> str:
    """Return the SHA-256 over the paths and digests in their order."""
    hasher = hashlib.sha256()
    for sample in samples:
        hasher.update(f"{sample.image} {sample.digest}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def _sample(root: Path, image: str, mask: str) -> MaskedImage:
    hasher = hashlib.sha256((root / "images" / image).read_bytes())
    hasher.update((root / "masks" / mask).read_bytes())
    return MaskedImage(f"images/{image}", f"masks/{mask}", f"sha256:{hasher.hexdigest()}")


def _selected(root: Path, where: str) -> set[str]:
    column, equals, value = where.partition("=")
    if not equals:
        raise DatasetError(f"found where {where!r}, expected COLUMN=VALUE, such as modality=fluorescence")
    try:
        rows = list(csv.DictReader((root / INDEX).read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{root}: found no readable {INDEX}, expected one to look up {where}") from error
    if not rows or not {"file", column} <= rows[0].keys():
        columns = ", ".join(rows[0]) if rows else "no rows"
        raise DatasetError(f"{root / INDEX}: found {columns}, expected the columns file and {column}")
    return {row["file"] for row in rows if row[column] == value}
