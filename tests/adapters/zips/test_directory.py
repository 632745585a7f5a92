"""The directory of a zip file is complete and within the limits, or the file is refused before anything is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_adapters.errors import DatasetTooLarge
from lensmount_adapters.zips.reader import Archive

if TYPE_CHECKING:
    from tests.adapters.zips.conftest import Zips


def test_a_64_bit_end_record_is_read(
    zips: type[Zips], refusal: Callable[..., str], opened: Callable[..., Archive]
) -> None:
    data = zips.pack(zips.FILES, zipfile.ZIP_STORED)
    at = data.rindex(b"PK\x05\x06")
    *_, count, size, start, _ = struct.unpack("<4s4H2LH", data[at:])
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    short = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)

    archive = opened(data[:at] + wide + locator + short)

    assert {name: archive.read(name) for name in archive.entries} == zips.FILES
    assert refusal(data[:at] + short) == "zip_malformed"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"this is not a zip file at all",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[: data.index(b"PK\x01\x02")] + data[data.rindex(b"PK\x05\x06") :],
        lambda data: b"prefix" + data,
        lambda data: data + b"behind",
        lambda data: data[:-18] + b"\1\0" + data[-16:],  # this is the second disk
        lambda data: data[:-12] + b"\1\0" + data[-10:],  # fewer entries here than in all
    ],
)
def test_zip_01_anything_but_one_complete_zip_is_malformed(
    zips: type[Zips], refusal: Callable[..., str], damage: Any
) -> None:
    assert refusal(damage(zips.pack(zips.FILES))) == "zip_malformed"


def test_zip_01_encrypted_entries_are_refused(zips: type[Zips], refusal: Callable[..., str]) -> None:
    packed = zips.deflated(b"secret")
    for flags in (0x1, 0x41, 0x2000):
        made = zips.one_entry(b"a/1.png", packed, 6, zlib.crc32(b"secret"), flags=flags)
        assert refusal(made) == "zip_encrypted"


def test_zip_01_an_end_record_hidden_in_the_comment_is_refused(zips: type[Zips], refusal: Callable[..., str]) -> None:
    data = zips.pack(zips.FILES)[:-2]
    hidden = zips.end(0, 0, 0)

    assert refusal(data + struct.pack("<H", len(hidden)) + hidden) == "zip_malformed"


def test_zip_03_ratio_total_and_count_are_decided_from_the_directory(
    zips: type[Zips], refusal: Callable[..., str], opened: Callable[..., Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: pytest.fail("unpacked before it was checked"))

    assert refusal(zips.pack({"a/1.png": bytes(10_000_000)})) == "zip_too_large"
    assert refusal(zips.pack({f"a/{i}.png": bytes(60_000) for i in range(40)})) == "zip_too_large"
    assert refusal(zips.pack(zips.FILES), max_total_bytes=2000) == "zip_too_large"
    assert refusal(zips.pack(zips.FILES), max_entries=3) == "zip_too_large"
    with pytest.raises(DatasetTooLarge):
        opened(zips.pack({f"a/{i}": b"" for i in range(5000)}), max_entries=4999)


def test_zip_03_a_count_beyond_the_directory_is_refused_at_once(zips: type[Zips], refusal: Callable[..., str]) -> None:
    data = zips.pack(zips.FILES)
    at = data.rindex(b"PK\x05\x06")
    lying = data[: at + 8] + struct.pack("<HH", 60_000, 60_000) + data[at + 12 :]

    assert refusal(lying) == "zip_malformed"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_12_other_compression_methods_are_refused(
    zips: type[Zips], refusal: Callable[..., str], method: int
) -> None:
    assert refusal(zips.pack(zips.FILES, method)) == "zip_method_not_supported"


def test_zip_12_zstd_and_patched_data_are_refused(zips: type[Zips], refusal: Callable[..., str]) -> None:
    assert refusal(zips.one_entry(b"a/1.png", b"x", 1, 0, method=93)) == "zip_method_not_supported"
    assert refusal(zips.one_entry(b"a/1.png", b"x", 1, 0, flags=0x20)) == "zip_method_not_supported"
