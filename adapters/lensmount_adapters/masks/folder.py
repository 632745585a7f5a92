"""A dataset of images with masks, in a folder or a zip file, and `index.csv` to select by.

pairs.py has the layouts and names, file.py says how a file is read, values.py what its values mean.
With one label every value but 0 is that label. With several labels, value i is the i-th label, as in the masks that a
server returns.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lensmount_adapters.data.source import ArchiveSource, FolderSource, Source
from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.inputs.images import ImageLimits, decode_image
from lensmount_adapters.masks.colours import Colours, read_colours, table_of
from lensmount_adapters.masks.file import Frame, Mask, frame_of, read_mask
from lensmount_adapters.masks.index import INDEX, select
from lensmount_adapters.masks.lists import lists_of, read_lists
from lensmount_adapters.masks.pairs import LISTED, Pair, Pairs, find_pairs, wrapping_folder
from lensmount_adapters.zips.reader import ArchiveLimits, open_archive

_OWN_DISK = ArchiveLimits(max_entries=10**7, max_total_bytes=2**50, max_entry_bytes=2**30)  # a local file may be large


@dataclass(frozen=True, slots=True)
class MaskedImage:
    """One image and its mask, as paths below the dataset. `digest` covers all its files.

    `parts` are the files of a mask that is joined from one file per object; `mask` is then the first of them.
    `part` is "train", "validation" or "test" if the dataset states it.
    """

    image: str
    mask: str
    digest: str
    parts: tuple[str, ...] = ()
    part: str | None = None

    @property
    def mask_files(self) -> tuple[str, ...]:
        return self.parts or (self.mask,)


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """A dataset of masks, as `read_mask_folder(Path("nuclei"), ("nucleus",), "modality=fluorescence")` returns it.

    `notes` are sentences for the user, about files that are not used. `source` None reads from the folder `root`.
    `colours` is the table of colours next to the images, if there is one. `limits` hold for images and masks.
    """

    root: Path
    labels: tuple[str, ...]
    samples: tuple[MaskedImage, ...]
    notes: tuple[str, ...] = ()
    source: Source | None = None
    colours: Colours | None = None
    limits: ImageLimits = field(default_factory=ImageLimits)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        return digest_of_masked(self.samples)

    def parts(self) -> list[str | None]:
        """The stated part of each sample."""
        return [sample.part for sample in self.samples]

    def read(self, path: str) -> bytes:
        """Read the bytes of a file. Safe from any thread. Raises a DatasetError that names the file."""
        return _bytes(self.source or FolderSource(self.root), path)

    def image(self, sample: MaskedImage) -> Image.Image:
        """Read the RGB image of a sample. Raises a DatasetError that names the file."""
        try:
            return decode_image(self.read(sample.image), self.limits)
        except ImageError as error:
            raise DatasetError(f"{sample.image}: {error}") from error

    def masks(self, sample: MaskedImage, size: tuple[int, int]) -> np.ndarray:
        """Read the masks, bool [labels, height, width], of an image of `size` (width, height), turned as the image is.

        Raises a DatasetError that names the file.
        """
        return self.mask(sample, size).labels

    def mask(self, sample: MaskedImage, size: tuple[int, int]) -> Mask:
        """The same, with the pixels that count as nothing."""
        frame = frame_of(self.read(sample.image))
        return self.checked_mask(sample, Frame(size, 1 if frame is None else frame.orientation))

    def frame(self, sample: MaskedImage) -> Frame:
        """The size of the image as shown, and its EXIF orientation. Raises a DatasetError that names the file."""
        return frame_of(self.read(sample.image)) or Frame(self.image(sample).size, 1)

    def checked_mask(self, sample: MaskedImage, frame: Frame) -> Mask:
        """Read the mask of an image with this frame, joined from its files. Raises DatasetError that names the file."""
        joined: Mask | None = None
        for path in sample.mask_files:
            try:
                mask = read_mask(self.read(path), frame, len(self.labels), self.colours, self.limits)
            except DatasetError as error:
                raise DatasetError(f"{path}: {error}" if path not in str(error) else str(error)) from error
            joined = mask if joined is None else joined.joined(mask)
        assert joined is not None  # a sample has at least one mask file
        return joined


def read_mask_folder(
    root: Path, labels: Sequence[str], where: str | None = None, limits: ImageLimits | None = None
) -> MaskFolder:
    """List the images of a folder or zip file with their masks. No pixels are decoded yet.

    `where` "COLUMN=VALUE" keeps the images whose row in index.csv has this value. `limits` hold when files are decoded.
    Raises DatasetError if folders, the index or masks are missing, if an image has two masks that are not parts of one,
    or if no image is left.
    """
    try:
        source = _source(root)
        files = source.list().files
        if wrapping := wrapping_folder(files):
            source = source.below(wrapping)
            files = source.list().files
        pairs = find_pairs(str(root), files)
    except OSError as error:
        raise DatasetError(f"{root}: cannot be read ({error.strerror}). Fix: check the path") from error
    pairs, notes = _listed_only(source, str(root), files, pairs)
    images = [*(pair.image for pair in pairs.pairs), *pairs.without_mask]
    selected, notes = set(images), (*_notes(pairs), *notes)
    if where is not None:
        selected, of_index = _selected(source, root, images, where)
        notes = (*notes, *of_index)
    if not selected:
        raise DatasetError(f"{root}: found no image, expected at least one in images/. Fix: add images and their masks")
    _check_all_have_masks(root, pairs, selected)
    colours, table = None, b""
    if name := table_of(files):
        table = _bytes(source, name)
        colours, of_table = read_colours(name, table, labels)
        notes = (*notes, *of_table)
    samples, of_parts = _in_parts([_sample(source, pair, table) for pair in pairs.pairs if pair.image in selected])
    return MaskFolder(root, tuple(labels), samples, (*notes, *of_parts), source, colours, limits or ImageLimits())


def digest_of_masked(samples: Iterable[MaskedImage]) -> str:
    """Return the SHA-256 over the paths and digests in their order."""
    hasher = hashlib.sha256()
    for sample in samples:
        hasher.update(f"{sample.image} {sample.digest}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def _source(root: Path) -> Source:
    if root.is_dir():
        return FolderSource(root)
    if not root.exists():
        raise DatasetError(f"{root}: found no such folder, expected images/ and masks/ in it. Fix: check the path")
    return ArchiveSource(open_archive(root, _OWN_DISK), str(root))


def _listed_only(source: Source, title: str, files: Sequence[str], pairs: Pairs) -> tuple[Pairs, tuple[str, ...]]:
    """The images that the lists of a Pascal VOC name, with their parts. All of them if there are no lists."""
    images = [*(pair.image for pair in pairs.pairs), *pairs.without_mask]
    lists = lists_of(files)
    if not lists or not images:
        return pairs, ()
    parts, notes = read_lists(title, lists, lambda path: _bytes(source, path), images)
    kept = tuple(replace(pair, part=parts[pair.image]) for pair in pairs.pairs if pair.image in parts)
    hidden = "test" not in {pair.part for pair in kept}
    missing = [image for image in pairs.without_mask if image in parts and not (hidden and parts[image] == "test")]
    return replace(pairs, pairs=kept, without_mask=tuple(missing)), notes


def _check_all_have_masks(root: Path, pairs: Pairs, selected: set[str]) -> None:
    if missing := [image for image in pairs.without_mask if image in selected]:
        names = [image.rpartition("/")[2] for image in missing]
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise DatasetError(
            f"{root}: found no mask for {', '.join(names[:LISTED])}{more}, expected one for each image. "
            f"Fix: draw it (an all-black one for an image without objects) or take the image out of the dataset"
            + (
                f"; no image fits {', '.join(pairs.without_image[:3])}: name a mask as its image, or with _mask "
                "behind. If each file has one class (_disc, _cup), join them into one mask in which value i is the "
                "i-th label"
                if pairs.without_image
                else ""
            )
        )


def _in_parts(samples: Sequence[MaskedImage]) -> tuple[tuple[MaskedImage, ...], tuple[str, ...]]:
    """Keep the stated parts if they can be a split: there are two of them, or images without one, to train on."""
    counts = Counter(sample.part for sample in samples)
    stated = ", ".join(f"{part}: {counts[part]}" for part in ("train", "validation", "test") if counts[part])
    if not stated:
        return tuple(samples), ()
    if counts["train"] or counts[None]:
        if len(counts) > 1:
            notes = (f"The parts of the split are taken as stated ({stated})",)
            return tuple(samples), (*notes, *_divided(samples))
        return tuple(replace(sample, part=None) for sample in samples), ()
    note = f"The split is drawn at random, because no image is stated for training ({stated})"
    return tuple(replace(sample, part=None) for sample in samples), (note,)


def _divided(samples: Sequence[MaskedImage]) -> tuple[str, ...]:
    """A note on images that a stated split has in two parts."""
    first: dict[str, MaskedImage] = {}
    twice = [
        f"{before.image} and {sample.image}"
        for sample in samples
        if (before := first.setdefault(sample.digest, sample)).part != sample.part
    ]
    if not twice:
        return ()
    return (f"{len(twice)} image(s) are in two parts of the split, with the same mask: {', '.join(twice[:LISTED])}",)


def _sample(source: Source, pair: Pair, table: bytes) -> MaskedImage:
    hasher = hashlib.sha256(_bytes(source, pair.image) + table)
    for mask in pair.masks:
        hasher.update(_bytes(source, mask))
    return MaskedImage(
        pair.image,
        pair.masks[0],
        f"sha256:{hasher.hexdigest()}",
        pair.masks if len(pair.masks) > 1 else (),
        pair.part,
    )


def _bytes(source: Source, path: str) -> bytes:
    try:
        return source.read(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}). Fix: check the file") from error


def _notes(pairs: Pairs) -> tuple[str, ...]:
    notes = [*pairs.notes]
    for files, what in (
        (pairs.without_image, "mask(s) belong to no image and are not used"),
        (pairs.ignored, "file(s) were ignored, because their suffix is not that of an image"),
    ):
        if files:
            more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
            notes.append(f"{len(files)} {what}: {', '.join(files[:LISTED])}{more}")
    return tuple(notes)


def _selected(source: Source, root: Path, images: Sequence[str], where: str) -> tuple[set[str], tuple[str, ...]]:
    if not where.partition("=")[1]:
        raise DatasetError(
            f"found where {where!r}, expected COLUMN=VALUE, such as modality=fluorescence. "
            f"Fix: give a column of {INDEX}"
        )
    names = [path for path in source.list().files if "/" not in path]
    index = [path for path in names if path.casefold() == INDEX]
    if not index:
        like = [path for path in names if path.casefold().endswith((".csv", ".tsv", ".txt", ".xlsx", ".ods"))]
        raise DatasetError(
            f"{root}: found no readable {INDEX}, expected one to look up {where}. "
            f"Fix: save the table of the images as {INDEX}" + (f" (found {', '.join(like[:3])})" if like else "")
        )
    return select(f"{root / index[0]}", _bytes(source, index[0]), images, where)
