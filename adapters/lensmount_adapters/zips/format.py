"""The records of a zip file, and how to read and refuse them.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (sections by number below).
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NoReturn

from lensmount_adapters.errors import ArchiveInvalid, DatasetTooLarge

STORED, DEFLATED = 0, 8
END = struct.Struct("<4s4H2LH")  # 4.3.16
END64_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # 4.4.4: traditional, strong, masked headers
DESCRIPTOR = 0x0008  # the sizes follow the data
PATCHED = 0x0020
UTF8 = 0x0800
PACK_AGAIN = "Fix: pack the files again, or send the zip again if it was damaged on the way"


def read_at(file: BinaryIO, at: int, count: int) -> bytes:
    """Read `count` bytes at an offset. Raises ArchiveInvalid if the file ends before."""
    file.seek(at)
    data = file.read(count)
    if len(data) != count:
        malformed(f"found the end of the file at {at + len(data)}, expected {count - len(data)} more bytes")
    return data


def wide_fields(extra: bytes, size: int, packed: int, offset: int, disk: int) -> tuple[int, int, int, int]:
    """Return size, packed size, offset and disk. Where a short field is full, the 64-bit extra field has it (4.5.3)."""
    is_wide = [size == 0xFFFFFFFF, packed == 0xFFFFFFFF, offset == 0xFFFFFFFF, disk == 0xFFFF]
    if not any(is_wide):
        return size, packed, offset, disk
    body = extra_field(extra, 0x0001)
    values = [size, packed, offset, disk]
    at = 0
    for index, width in enumerate((8, 8, 8, 4)):
        if is_wide[index]:
            if at + width > len(body):
                malformed("found an entry that refers to 64-bit sizes and does not have them")
            values[index] = int.from_bytes(body[at : at + width], "little")
            at += width
    return values[0], values[1], values[2], values[3]


def extra_field(extra: bytes, kind: int) -> bytes:
    """Return the body of one extra field (4.5), or nothing if there is none."""
    at = 0
    while at + 4 <= len(extra):
        field, length = struct.unpack_from("<HH", extra, at)
        if field == kind:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def quoted(name: str) -> str:
    """Return a name in quotes for a message, shortened to 80 characters."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def entry_title(number: int, name: str) -> str:
    """Return an entry in words for a message: by its number in the directory, from 1, and by its name."""
    return f"entry {number} ({quoted(name)})"


def refuse(code: str, message: str) -> NoReturn:
    """Refuse the zip. A message without its own fix is about damage, which packing the files again mends."""
    raise ArchiveInvalid(message if "Fix: " in message else f"{message}. {PACK_AGAIN}", code=code)


def malformed(message: str) -> NoReturn:
    refuse("zip_malformed", message)


def too_large(message: str) -> NoReturn:
    raise DatasetTooLarge(message)
