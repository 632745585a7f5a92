"""The records of a zip file have the sizes of the specification, and 64-bit fields replace full short ones."""

from __future__ import annotations

import io
import struct

import pytest

from lensmount_adapters.errors import ArchiveInvalid
from lensmount_adapters.zips import format as zip_format
from lensmount_adapters.zips.format import quoted, read_at, wide_fields

FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("record", "size"), [("END", 22), ("END64_LOCATOR", 20), ("END64", 56), ("CENTRAL", 46), ("LOCAL", 30)]
)
def test_a_record_has_the_size_of_the_specification(record: str, size: int) -> None:
    assert getattr(zip_format, record).size == size


def test_only_full_fields_are_read_from_the_64_bit_extra_field_in_its_order() -> None:
    extra = struct.pack("<HHQ", 0x5455, 8, 1) + struct.pack("<HHQQ", 0x0001, 16, 2**33, 2**34)

    assert wide_fields(extra, FULL, 7, FULL, 0) == (2**33, 7, 2**34, 0)
    assert wide_fields(extra, 5, 7, 9, 0) == (5, 7, 9, 0)
    assert wide_fields(struct.pack("<HHQL", 0x0001, 12, 2**33, 3), FULL, 7, 9, 0xFFFF) == (2**33, 7, 9, 3)


@pytest.mark.parametrize("extra", [b"", struct.pack("<HHL", 0x0001, 4, 1), b"\x01\x00"])
def test_a_full_field_without_a_64_bit_one_is_malformed(extra: bytes) -> None:
    with pytest.raises(ArchiveInvalid) as caught:
        wide_fields(extra, FULL, 7, 9, 0)
    assert caught.value.code == "zip_malformed"


def test_reading_beyond_the_end_says_how_many_bytes_are_missing() -> None:
    assert read_at(io.BytesIO(b"abcdef"), 2, 3) == b"cde"
    with pytest.raises(ArchiveInvalid, match="found the end of the file at 6, expected 3 more bytes"):
        read_at(io.BytesIO(b"abcdef"), 4, 5)


def test_a_long_name_is_shortened_in_messages() -> None:
    assert quoted("a\n") == r"'a\n'"
    assert quoted("x" * 80) == repr("x" * 80)
    assert quoted("x" * 81) == repr("x" * 77 + "...")
