"""Shared by the tests of zip files: archives written byte by byte, good ones and hostile ones."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.zips.reader import Archive, ArchiveLimits, open_archive


class Zips:
    """Builds zip files: whole ones with zipfile, and each record by itself with the fields that are asked for."""

    FILES: ClassVar[dict[str, bytes]] = {
        "a/1.png": b"one" * 300,
        "a/2.png": b"",
        "b/deep/3.png": bytes(range(256)) * 8,
        "b/4.png": b"x",
    }

    @staticmethod
    def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    @staticmethod
    def with_entry(entry: zipfile.ZipInfo | str, data: bytes = b"data", method: int = zipfile.ZIP_STORED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/1.png", b"first")
            archive.writestr(entry, data)
        return buffer.getvalue()

    @staticmethod
    def local(
        name: bytes, data: bytes, size: int, crc: int, extra: bytes = b"", flags: int = 0, method: int = 8
    ) -> bytes:
        return struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, flags, method, 0, 0x21, crc, len(data), size, len(name), len(extra)
        ) + name + extra  # fmt: skip

    @staticmethod
    def central(name: bytes, packed: int, size: int, crc: int, offset: int, flags: int = 0, method: int = 8) -> bytes:
        head = struct.pack("<4s6H3L", b"PK\x01\x02", 20, 20, flags, method, 0, 0x21, crc, packed, size)
        return head + struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, offset) + name

    @staticmethod
    def end(count: int, size: int, start: int, comment: bytes = b"") -> bytes:
        return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, start, len(comment)) + comment

    @staticmethod
    def deflated(data: bytes) -> bytes:
        compress = zlib.compressobj(9, zlib.DEFLATED, -15)
        return compress.compress(data) + compress.flush()

    @staticmethod
    def one_entry(name: bytes, packed: bytes, size: int, crc: int, **kwargs: Any) -> bytes:
        head = Zips.local(name, packed, size, crc, **kwargs) + packed
        directory = Zips.central(name, len(packed), size, crc, 0, **kwargs)
        return head + directory + Zips.end(1, len(directory), len(head))

    @staticmethod
    def overlapping(entries: int, unpacked: int) -> bytes:
        """`entries` files that share one run of packed zeros: each header's extra field covers the headers after it."""
        packed, crc = Zips.deflated(bytes(unpacked)), zlib.crc32(bytes(unpacked))
        names = [f"a/{number:03d}.png".encode() for number in range(entries)]
        step = 30 + len(names[0])
        heads = b""
        for number, name in enumerate(names):
            behind = step * (entries - 1 - number)
            head = Zips.local(name, packed, unpacked, crc)
            heads += head[:28] + struct.pack("<H", behind) + head[30:]
        directory = b"".join(
            Zips.central(name, len(packed), unpacked, crc, step * number) for number, name in enumerate(names)
        )
        return heads + packed + directory + Zips.end(entries, len(directory), len(heads) + len(packed))


@pytest.fixture(scope="session")
def zips() -> type[Zips]:
    """`zips.pack(zips.FILES)`: the bytes of an archive."""
    return Zips


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Archive]:
    def open_bytes(data: bytes, **limits: int) -> Archive:
        path = tmp_path / "x.zip"
        path.write_bytes(data)
        return open_archive(path, ArchiveLimits(**limits))

    return open_bytes


@pytest.fixture
def refusal(opened: Callable[..., Archive]) -> Callable[..., str]:
    """`refusal(data, max_entries=3)`: the code that opening these bytes is refused with."""

    def code_of(data: bytes, **limits: int) -> str:
        with pytest.raises(DatasetError) as caught:
            opened(data, **limits)
        assert "Fix: " in str(caught.value)
        return caught.value.code

    return code_of
