"""The zip reader refuses bad archives before it unpacks anything, and reads good ones as zipfile does."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_adapters.errors import ArchiveInvalid, DatasetError, DatasetTooLarge
from lensmount_adapters.zips.reader import Archive

if TYPE_CHECKING:
    from tests.adapters.zips.conftest import Zips


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_archive_reads_as_zipfile_reads_it(
    zips: type[Zips], opened: Callable[..., Archive], method: int
) -> None:
    archive = opened(zips.pack(zips.FILES, method))

    assert {name: archive.read(name) for name in archive.entries} == zips.FILES


def test_archives_of_a_stream_a_64_bit_writer_and_info_zip_are_read(
    zips: type[Zips], opened: Callable[..., Archive], tmp_path: Path
) -> None:
    class Pipe(io.RawIOBase):  # zipfile then writes sizes after the data
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.written += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in zips.FILES.items():
            archive.writestr(name, data)
    assert {n: opened(pipe.written).read(n) for n in zips.FILES} == zips.FILES

    wide = io.BytesIO()
    with zipfile.ZipFile(wide, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in zips.FILES.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    assert {n: opened(wide.getvalue()).read(n) for n in zips.FILES} == zips.FILES

    if shutil.which("zip"):
        for name, data in zips.FILES.items():
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(data)
        subprocess.run(["zip", "-qr", "../made.zip", "."], cwd=tmp_path / "in", check=True)
        made = opened((tmp_path / "made.zip").read_bytes())
        assert {n: made.read(n) for n in zips.FILES} == zips.FILES
        assert "b/deep" in made.folders


def test_zip_02_overlapping_entries_are_refused(zips: type[Zips], refusal: Callable[..., str]) -> None:
    bomb = zips.overlapping(200, 1_000_000)
    assert len(bomb) < 30_000

    assert refusal(bomb, max_ratio=10**9) == "zip_overlap"
    assert refusal(bomb) == "zip_too_large"  # by its ratio alone, before overlaps are checked
    assert refusal(zips.overlapping(200, 20)) == "zip_overlap"


def test_zip_02_entries_that_share_one_header_are_refused(zips: type[Zips], refusal: Callable[..., str]) -> None:
    packed, crc = zips.deflated(b"same"), zlib.crc32(b"same")
    head = zips.local(b"a/1.png", packed, 4, crc) + packed
    directory = zips.central(b"b/1.png", len(packed), 4, crc, 0) + zips.central(b"a/1.png", len(packed), 4, crc, 0)

    assert refusal(head + directory + zips.end(2, len(directory), len(head))) == "zip_overlap"


def test_zip_02_data_that_reach_into_the_directory_are_refused(zips: type[Zips], refusal: Callable[..., str]) -> None:
    head = zips.local(b"a/1.png", b"x" * 60, 60, 0, method=0)
    directory = zips.central(b"a/1.png", 60, 60, 0, 0, method=0)

    assert refusal(head + directory + zips.end(1, len(directory), len(head))) == "zip_overlap"


def test_zip_03_an_entry_over_the_limit_is_not_read(zips: type[Zips], opened: Callable[..., Archive]) -> None:
    archive = opened(zips.pack({"a/1.png": random.Random(0).randbytes(5000)}), max_entry_bytes=4999)

    with pytest.raises(DatasetTooLarge):
        archive.read("a/1.png")


@pytest.mark.parametrize("declared", [1, 999, 1001, 100_000])
def test_zip_04_a_wrong_declared_size_is_refused_when_the_entry_is_read(
    zips: type[Zips], opened: Callable[..., Archive], declared: int
) -> None:
    data = random.Random(0).randbytes(1000)
    archive = opened(zips.one_entry(b"a/1.png", zips.deflated(data), declared, zlib.crc32(data)))

    with pytest.raises(ArchiveInvalid) as caught:
        archive.read("a/1.png")

    assert caught.value.code == "zip_size_mismatch"


def test_zip_04_reading_stops_one_byte_after_the_declared_size(
    zips: type[Zips], opened: Callable[..., Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, *args: Any) -> None:
            self._inner = real(*args)

        def decompress(self, data: bytes, most: int) -> bytes:
            out = self._inner.decompress(data, most)
            held.append(len(out))
            return out

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    archive = opened(zips.one_entry(b"a/1.png", zips.deflated(bytes(50_000_000)), 1000, 0), max_ratio=10**9)
    monkeypatch.setattr(zlib, "decompressobj", Watched)

    with pytest.raises(ArchiveInvalid):
        archive.read("a/1.png")

    assert sum(held) == 1001


def test_zip_04_two_sizes_for_one_entry_and_stored_sizes_that_differ_are_refused(
    zips: type[Zips], refusal: Callable[..., str]
) -> None:
    data = b"x" * 100
    packed, crc = zips.deflated(data), zlib.crc32(data)
    head = zips.local(b"a/1.png", packed, 90, crc) + packed
    directory = zips.central(b"a/1.png", len(packed), 100, crc, 0)
    assert refusal(head + directory + zips.end(1, len(directory), len(head))) == "zip_size_mismatch"

    head = zips.local(b"a/1.png", data, 100, crc, method=0) + data
    directory = zips.central(b"a/1.png", 100, 90, crc, 0, method=0)
    assert refusal(head + directory + zips.end(1, len(directory), len(head))) == "zip_size_mismatch"


def test_bytes_that_fail_their_checksum_or_are_not_deflate_are_refused(
    zips: type[Zips], opened: Callable[..., Archive]
) -> None:
    data = b"y" * 100
    for packed, crc in ((zips.deflated(data), 1), (b"\xff" * 40, zlib.crc32(data))):
        with pytest.raises(ArchiveInvalid) as caught:
            opened(zips.one_entry(b"a/1.png", packed, 100, crc)).read("a/1.png")
        assert caught.value.code == "zip_malformed"


def test_a_local_header_that_disagrees_with_the_directory_is_refused(
    zips: type[Zips], refusal: Callable[..., str]
) -> None:
    data = zips.pack({"a/1.png": b"hello"}, zipfile.ZIP_STORED)

    assert refusal(data.replace(b"a/1.png", b"b/2.png", 1)) == "zip_malformed"
    assert refusal(data.replace(b"PK\x03\x04", b"PK\x03\x05", 1)) == "zip_malformed"


def test_many_threads_read_one_archive(zips: type[Zips], opened: Callable[..., Archive]) -> None:
    files = {f"a/{number}.png": random.Random(number).randbytes(3000) for number in range(50)}
    archive = opened(zips.pack(files))

    with ThreadPoolExecutor(8) as pool:
        read = dict(zip(files, pool.map(archive.read, files), strict=True))

    assert read == files


@pytest.mark.parametrize("seed", range(8))
def test_a_mutated_archive_is_refused_or_read_and_nothing_else_happens(
    zips: type[Zips], opened: Callable[..., Archive], seed: int
) -> None:
    draw = random.Random(seed)
    wide = io.BytesIO()
    with zipfile.ZipFile(wide, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a/1.png", "w", force_zip64=True) as file:
            file.write(b"one" * 300)
        archive.mkdir("b")
        archive.writestr("b/2.png", b"two")
    good = (zips.pack(zips.FILES), zips.pack(zips.FILES, zipfile.ZIP_STORED), wide.getvalue(), zips.overlapping(4, 50))
    codes: list[str] = []
    read = 0
    for _ in range(400):
        data = mutated(draw, draw.choice(good))
        try:
            found = opened(data, max_total_bytes=1_000_000)
            for name in found.entries:
                assert len(found.read(name)) <= 1_000_000
            read += 1
        except DatasetError as error:
            codes.append(error.code)

    assert all(code.startswith("zip_") for code in codes)
    assert len(codes) > 200
    assert read > 0


def mutated(draw: random.Random, data: bytes) -> bytes:
    """One to four changes: a flipped bit, an extreme number in a header, a cut, a repeat, a swap of two parts."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) or 1)
        match draw.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([changed[at] ^ 1 << draw.randrange(8)]) if changed else b""
            case 1:
                width = draw.choice((2, 4, 8))
                changed[at : at + width] = draw.choice((b"\0", b"\xff", b"\x7f")) * width
            case 2:
                del changed[at : at + draw.randint(1, 40)]
            case 3:
                changed[at:at] = changed[at : at + draw.randint(1, 80)]
            case 4:
                start = changed.find(draw.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")))
                if start >= 0:
                    field = start + draw.randrange(4, 46)
                    changed[field : field + 2] = struct.pack(
                        "<H", draw.choice((0, 1, 8, 0xFFFF, draw.randrange(65536)))
                    )
    return bytes(changed)
