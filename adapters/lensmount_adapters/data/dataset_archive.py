"""Write a dataset as a canonical archive: equal images and labels give equal bytes, so that a digest identifies them.

The archive is a zip file of stored entries, sorted, without times: the images under their own paths, then
`manifest.jsonl` with one row per image. The zip file is written here because a library's bytes may change with its
version.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from lensmount_adapters.data.broken_files import Unreadable, broken_files
from lensmount_adapters.data.dataset import Labelled, Listed
from lensmount_adapters.data.dataset_report import findings
from lensmount_adapters.data.image_facts import ImageFacts, facts_of
from lensmount_adapters.data.labels import MAX_FILE_BYTES, read_rows
from lensmount_adapters.data.split import MIN_CLASS_IMAGES, check_classes
from lensmount_adapters.errors import DatasetError, DatasetTooLarge, ImageError
from lensmount_adapters.inputs.images import ImageLimits, decode_image, without_private_tags
from lensmount_adapters.zips.format import CENTRAL, END, END64, END64_LOCATOR, LOCAL, UTF8

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """Limits of a dataset, in addition to the limits of its archive."""

    max_classes: int = 1000
    min_class_images: int = MIN_CLASS_IMAGES
    max_unreadable_fraction: float = 0.01
    image: ImageLimits = field(default_factory=ImageLimits)


@dataclass(frozen=True, slots=True)
class DatasetArchive:
    """A written archive: its SHA-256, its size, and the report on the dataset."""

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
    """Decode every image once and write the readable ones to `file` as a canonical archive.

    `on_progress(done, total)` is called before each image and may raise to stop. Raises DatasetError
    (`dataset_too_small`, `dataset_unreadable`), DatasetTooLarge (`dataset_too_large`), and OSError from `file`.
    """
    limits = limits or DatasetLimits()
    _check_classes(listed, limits)
    writer = ArchiveWriter(file)
    images: list[ImageFacts] = []
    unreadable: list[Unreadable] = []
    for done, labelled in enumerate(sorted(listed.files, key=lambda labelled: labelled.path)):
        if on_progress is not None:
            on_progress(done, len(listed.files))
        try:
            facts, data = _read_image(listed, labelled, limits.image)
        except ImageError as error:
            unreadable.append(Unreadable(labelled.path, re.sub(r"[^ -~]", "?", str(error))))
            continue
        writer.add(labelled.path, data)
        images.append(facts)
    _check_images(listed, images, unreadable, limits)
    rows = "".join(map(_row, images)).encode()
    if len(rows) > MAX_FILE_BYTES:
        raise DatasetTooLarge(
            f"found {len(rows)} bytes of paths, labels and groups, expected at most {MAX_FILE_BYTES}. "
            "Fix: use shorter names",
            code="dataset_too_large",
        )
    read_rows(MANIFEST, rows)  # as a job will
    writer.add(MANIFEST, rows)
    digest, size = writer.finish()
    counts = Counter(facts.label for facts in images)
    classes = {name: counts[name] for name in listed.classes}
    return DatasetArchive(digest, size, len(images), classes, findings(listed, images, unreadable))


def _read_image(listed: Listed, labelled: Labelled, limits: ImageLimits) -> tuple[ImageFacts, bytes]:
    """Read and decode one image once, and return its facts and its bytes. Raises ImageError."""
    size = listed.source.size(labelled.path)
    if size > limits.max_image_bytes:
        raise ImageError(f"found {size} bytes, expected at most {limits.max_image_bytes}")
    data = listed.source.read(labelled.path)
    image = decode_image(data, limits)
    data = without_private_tags(data, image)
    return facts_of(data, image, labelled.path, labelled.label, labelled.group, labelled.split), data


def _check_classes(listed: Listed, limits: DatasetLimits) -> None:
    if len(listed.classes) > limits.max_classes:
        raise DatasetTooLarge(
            f"found {len(listed.classes)} classes, expected at most {limits.max_classes}. "
            "Fix: leave classes out, or join those that are alike",
            code="dataset_too_large",
        )
    _check_counts(listed.files, listed, limits, "")


def _check_counts(files: Iterable[Labelled | ImageFacts], listed: Listed, limits: DatasetLimits, which: str) -> None:
    counts = Counter(file.label for file in files)
    check_classes({name: counts[name] for name in listed.classes}, limits.min_class_images, which)


def _check_images(
    listed: Listed, images: list[ImageFacts], unreadable: list[Unreadable], limits: DatasetLimits
) -> None:
    if len(unreadable) > limits.max_unreadable_fraction * len(listed.files):
        raise DatasetError(
            f"{broken_files(listed.source.title, len(listed.files), unreadable)}\n"
            f"Expected at most {limits.max_unreadable_fraction:.1%} of them. Fix: repair or remove these files",
            code="dataset_unreadable",
        )
    _check_counts(images, listed, limits, "readable ")


def _row(facts: ImageFacts) -> str:
    row = {
        "path": facts.path,
        "label": facts.label,
        "group": facts.group,
        "split": facts.split,
        "sha256": facts.digest,
        "width": facts.width,
        "height": facts.height,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


_JANUARY_1980 = 0x21  # the earliest date that the format can express
_REGULAR_FILE = 0o100644 << 16
_UNIX = 3 << 8
MAX_32_BIT = 0xFFFFFFFF  # larger sizes and offsets need the 64-bit fields


class ArchiveWriter:
    """Call `writer.add("cat/1.png", data)` per file, then `digest, size = writer.finish()`. Entries are below 4 GiB."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._at = 0
        self._directory: list[bytes] = []

    def add(self, name: str, data: bytes) -> None:
        raw = name.encode()
        version = 20 if self._at < MAX_32_BIT else 45
        common = (version, UTF8, 0, 0, _JANUARY_1980, zlib.crc32(data), len(data), len(data), len(raw))
        extra = b"" if self._at < MAX_32_BIT else struct.pack("<HHQ", 1, 8, self._at)
        offset = min(self._at, MAX_32_BIT)
        central = CENTRAL.pack(
            b"PK\x01\x02", _UNIX | version, *common, len(extra), 0, 0, 0, _REGULAR_FILE, offset
        )  # fmt: skip
        self._directory.append(central + raw + extra)
        self._write(LOCAL.pack(b"PK\x03\x04", *common, 0) + raw)
        self._write(data)

    def finish(self) -> tuple[str, int]:
        """Write the directory after the files. Returns the archive's digest and its size."""
        start, count = self._at, len(self._directory)
        for central in self._directory:
            self._write(central)
        end, size = self._at, self._at - start
        if count >= 0xFFFF or start >= MAX_32_BIT or size >= MAX_32_BIT:
            self._write(END64.pack(b"PK\x06\x06", 44, _UNIX | 45, 45, 0, 0, count, count, size, start))
            self._write(END64_LOCATOR.pack(b"PK\x06\x07", 0, end, 1))
        short = min(count, 0xFFFF)
        self._write(END.pack(b"PK\x05\x06", 0, 0, short, short, min(size, MAX_32_BIT), min(start, MAX_32_BIT), 0))
        return f"sha256:{self._hash.hexdigest()}", self._at

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._at += len(data)
