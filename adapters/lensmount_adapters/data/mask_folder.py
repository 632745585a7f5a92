"""Pictures with masks as a dataset: `images/`, `masks/` with files of the same names, and `index.csv` to choose by.

A mask is a picture of the image's size: 0 is background. With one label every other value is that label; with several,
value i is the i-th label, as a server's mask answers are written.
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
    """One picture and its mask, as paths below the dataset; `digest` is that of both files."""

    image: str
    mask: str
    digest: str


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """`read_mask_folder(Path("nuclei"), ("nucleus",), "modality=fluorescence")`."""

    root: Path
    labels: tuple[str, ...]
    samples: tuple[MaskedImage, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        return digest_of_masked(self.samples)

    def picture(self, sample: MaskedImage) -> Image.Image:
        """RGB. Raises DatasetError that names the file."""
        try:
            return decode_image((self.root / sample.image).read_bytes())
        except (ImageError, OSError) as error:
            raise DatasetError(f"{sample.image}: {error}") from error

    def masks(self, sample: MaskedImage, size: tuple[int, int]) -> np.ndarray:
        """bool [labels, height, width] for a picture of `size` (width, height). Raises DatasetError."""
        try:
            with Image.open(io.BytesIO((self.root / sample.mask).read_bytes())) as image:
                values, found = np.array(image), image.size
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise DatasetError(f"{sample.mask}: found no image ({error}), expected a mask") from error
        if values.ndim != 2 or found != size:
            raise DatasetError(
                f"{sample.mask}: found {found[0]} x {found[1]} with {1 if values.ndim == 2 else values.shape[-1]} "
                f"channel(s), expected one channel of {size[0]} x {size[1]}, as its image"
            )
        if len(self.labels) == 1:
            masks: np.ndarray = (values > 0)[None]
            return masks
        if values.max() > len(self.labels):
            raise DatasetError(
                f"{sample.mask}: found the value {values.max()}, expected at most {len(self.labels)}, one a label"
            )
        masks = values[None] == np.arange(1, len(self.labels) + 1)[:, None, None]
        return masks


def read_mask_folder(root: Path, labels: Sequence[str], where: str | None = None) -> MaskFolder:
    """List the pictures that have a mask; `where` "COLUMN=VALUE" keeps those whose row in index.csv says so.

    Raises DatasetError where folders, index or masks are missing, or nothing is left.
    """
    for name in ("images", "masks"):
        if not (root / name).is_dir():
            raise DatasetError(f"{root}: found no folder {name}, expected images/ and masks/ with files of equal names")
    names = sorted((p.name for p in (root / "images").iterdir() if is_input_name(p.name, IMAGE_SUFFIXES)), key=order_of)
    if where is not None:
        wanted = _chosen(root, where)
        names = [name for name in names if name in wanted]
    if not names:
        raise DatasetError(f"{root}: found no image{f' with {where}' if where else ''}, expected some below images/")
    masks = {Path(p.name).stem: p.name for p in (root / "masks").iterdir() if is_input_name(p.name, IMAGE_SUFFIXES)}
    if missing := [name for name in names if Path(name).stem not in masks]:
        raise DatasetError(f"{root}: found no mask for {missing[0]} and {len(missing) - 1} more, expected one for each")
    return MaskFolder(root, tuple(labels), tuple(_sample(root, name, masks[Path(name).stem]) for name in names))


def digest_of_masked(samples: Sequence[MaskedImage]) -> str:
    """SHA-256 over the digests in their order."""
    hasher = hashlib.sha256()
    for sample in samples:
        hasher.update(f"{sample.image} {sample.digest}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def _sample(root: Path, image: str, mask: str) -> MaskedImage:
    hasher = hashlib.sha256((root / "images" / image).read_bytes())
    hasher.update((root / "masks" / mask).read_bytes())
    return MaskedImage(f"images/{image}", f"masks/{mask}", f"sha256:{hasher.hexdigest()}")


def _chosen(root: Path, where: str) -> set[str]:
    column, equals, value = where.partition("=")
    if not equals:
        raise DatasetError(f"found where {where!r}, expected COLUMN=VALUE, such as modality=fluorescence")
    try:
        rows = list(csv.DictReader((root / INDEX).read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{root}: found no readable {INDEX}, expected one to look up {where}") from error
    if not rows or not {"file", column} <= rows[0].keys():
        found = ", ".join(rows[0]) if rows else "no rows"
        raise DatasetError(f"{root / INDEX}: found {found}, expected the columns file and {column}")
    return {row["file"] for row in rows if row[column] == value}
