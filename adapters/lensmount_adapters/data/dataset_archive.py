"""The one archive that stands for a dataset: equal images and labels give equal bytes, so that a digest names them.

A zip file of stored entries, sorted, without times, written here and not by a library, whose bytes may change with its
version: the images under their own paths, then `manifest.jsonl` with a row for each.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from lensmount_adapters.data.dataset import Labelled, Listed
from lensmount_adapters.data.dataset_report import ImageFacts, Unreadable, findings, format_of
from lensmount_adapters.data.labels import MAX_FILE_BYTES
from lensmount_adapters.data.near_duplicates import likeness_of
from lensmount_adapters.errors import DatasetError, DatasetTooLarge, ImageError
from lensmount_adapters.inputs.images import ImageLimits, decode_image

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """What a dataset may not exceed, beside the limits of its archive."""

    max_classes: int = 1000
    min_class_images: int = 2
    max_unreadable_fraction: float = 0.01
    image: ImageLimits = field(default_factory=ImageLimits)


@dataclass(frozen=True, slots=True)
class DatasetArchive:
    """What was written: the archive's SHA-256 and size, and what was found in the dataset."""

    digest: str
    size_bytes: int
    images: int
    classes: dict[str, int]
    report: dict[str, Any]


def write_dataset_archive(
    listed: Listed,
    file: BinaryIO,
    limits: DatasetLimits | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DatasetArchive:
    """Decode every image once and write those that can be read to `file`, as a canonical archive.

    `on_progress(done, total)` is called before each image and may raise to stop. Raises DatasetError
    (`dataset_too_small`, `dataset_unreadable`), DatasetTooLarge (`dataset_too_large`), OSError of `file`.
    """
    limits = limits or DatasetLimits()
    _check_classes(listed, limits)
    writer = ArchiveWriter(file)
    pictures: list[ImageFacts] = []
    unreadable: list[Unreadable] = []
    for done, labelled in enumerate(sorted(listed.files, key=lambda labelled: labelled.path)):
        if on_progress is not None:
            on_progress(done, len(listed.files))
        try:
            picture, data = _look(listed, labelled, limits.image)
        except ImageError as error:
            unreadable.append(Unreadable(labelled.path, re.sub(r"[^ -~]", "?", str(error))))
            continue
        writer.add(labelled.path, data)
        pictures.append(picture)
    _check_pictures(listed, pictures, unreadable, limits)
    rows = "".join(map(_row, pictures)).encode()
    if len(rows) > MAX_FILE_BYTES:
        raise DatasetTooLarge(
            f"found {len(rows)} bytes of paths, labels and groups, expected at most {MAX_FILE_BYTES}. "
            "Fix: shorter names",
            code="dataset_too_large",
        )
    writer.add(MANIFEST, rows)
    digest, size = writer.finish()
    counts = Counter(picture.label for picture in pictures)
    classes = {name: counts[name] for name in listed.classes}
    return DatasetArchive(digest, size, len(pictures), classes, findings(listed, pictures, unreadable))


def _look(listed: Listed, labelled: Labelled, limits: ImageLimits) -> tuple[ImageFacts, bytes]:
    """Everything that is ever asked of one image, from one reading and one decoding; raises ImageError."""
    size = listed.source.size(labelled.path)
    if size > limits.max_image_bytes:
        raise ImageError(f"found {size} bytes, expected at most {limits.max_image_bytes}")
    data = listed.source.read(labelled.path)
    image = decode_image(data, limits)
    picture = ImageFacts(
        path=labelled.path,
        label=labelled.label,
        group=labelled.group,
        split=labelled.split,
        digest=hashlib.sha256(data).hexdigest(),
        width=image.width,
        height=image.height,
        format=format_of(data),
        size_bytes=len(data),
        likeness=likeness_of(image),
    )
    return picture, data


def _check_classes(listed: Listed, limits: DatasetLimits) -> None:
    if len(listed.classes) > limits.max_classes:
        raise DatasetTooLarge(
            f"found {len(listed.classes)} classes, expected at most {limits.max_classes}", code="dataset_too_large"
        )
    _check_counts(Counter(labelled.label for labelled in listed.files), listed, limits, "")


def _check_counts(counts: Counter[str], listed: Listed, limits: DatasetLimits, which: str) -> None:
    fewest = min(listed.classes, key=lambda name: counts[name])
    if counts[fewest] < limits.min_class_images:
        raise DatasetError(
            f"found {counts[fewest]} {which}image(s) of {fewest[:80]!r}, expected at least {limits.min_class_images} "
            "of each class. Fix: add images or leave the class out",
            code="dataset_too_small",
        )


def _check_pictures(
    listed: Listed, pictures: list[ImageFacts], unreadable: list[Unreadable], limits: DatasetLimits
) -> None:
    if len(unreadable) > limits.max_unreadable_fraction * len(listed.files):
        first = "; ".join(f"{one.path[:80]} ({one.reason})" for one in unreadable[:3])
        raise DatasetError(
            f"found {len(unreadable)} of {len(listed.files)} images that cannot be read, expected at most "
            f"{limits.max_unreadable_fraction:.1%}: {first}. Fix: repair or remove them",
            code="dataset_unreadable",
        )
    _check_counts(Counter(picture.label for picture in pictures), listed, limits, "readable ")


def _row(picture: ImageFacts) -> str:
    row = {
        "path": picture.path,
        "label": picture.label,
        "group": picture.group,
        "split": picture.split,
        "sha256": picture.digest,
        "width": picture.width,
        "height": picture.height,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_LOCATOR = struct.Struct("<4sLQL")
_UTF8 = 0x0800
_JANUARY_1980 = 0x21  # the earliest date that the format knows
_REGULAR_FILE = 0o100644 << 16
_UNIX = 3 << 8
_WIDE = 0xFFFFFFFF


class ArchiveWriter:
    """`writer.add("cat/1.png", data)` for each file, then `digest, size = writer.finish()`; entries below 4 GiB."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._at = 0
        self._directory: list[bytes] = []

    def add(self, name: str, data: bytes) -> None:
        raw = name.encode()
        version = 20 if self._at < _WIDE else 45
        common = (version, _UTF8, 0, 0, _JANUARY_1980, zlib.crc32(data), len(data), len(data), len(raw))
        extra = b"" if self._at < _WIDE else struct.pack("<HHQ", 1, 8, self._at)
        offset = min(self._at, _WIDE)
        central = _CENTRAL.pack(
            b"PK\x01\x02", _UNIX | version, *common, len(extra), 0, 0, 0, _REGULAR_FILE, offset
        )  # fmt: skip
        self._directory.append(central + raw + extra)
        self._write(_LOCAL.pack(b"PK\x03\x04", *common, 0) + raw)
        self._write(data)

    def finish(self) -> tuple[str, int]:
        """The directory behind the files; the archive's digest and its size."""
        start, count = self._at, len(self._directory)
        for central in self._directory:
            self._write(central)
        end, size = self._at, self._at - start
        if count >= 0xFFFF or start >= _WIDE or size >= _WIDE:
            self._write(_END64.pack(b"PK\x06\x06", 44, _UNIX | 45, 45, 0, 0, count, count, size, start))
            self._write(_END64_LOCATOR.pack(b"PK\x06\x07", 0, end, 1))
        short = min(count, 0xFFFF)
        self._write(_END.pack(b"PK\x05\x06", 0, 0, short, short, min(size, _WIDE), min(start, _WIDE), 0))
        return f"sha256:{self._hash.hexdigest()}", self._at

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._at += len(data)
