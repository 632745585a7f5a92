"""The zip reader refuses bad archives before it unpacks anything, and reads good ones as zipfile does."""

from __future__ import annotations

import io
import random
import shutil
import stat
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lensmount_adapters.data.zip_reader import Archive, ArchiveLimits, open_archive
from lensmount_adapters.errors import ArchiveInvalid, DatasetError, DatasetTooLarge

FILES = {"a/1.png": b"one" * 300, "a/2.png": b"", "b/deep/3.png": bytes(range(256)) * 8, "b/4.png": b"x"}


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def with_entry(entry: zipfile.ZipInfo | str, data: bytes = b"data", method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a/1.png", b"first")
        archive.writestr(entry, data)
    return buffer.getvalue()


def local(name: bytes, data: bytes, size: int, crc: int, extra: bytes = b"", flags: int = 0, method: int = 8) -> bytes:
    return struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 20, flags, method, 0, 0x21, crc, len(data), size, len(name), len(extra)
    ) + name + extra  # fmt: skip


def central(name: bytes, packed: int, size: int, crc: int, offset: int, flags: int = 0, method: int = 8) -> bytes:
    head = struct.pack("<4s6H3L", b"PK\x01\x02", 20, 20, flags, method, 0, 0x21, crc, packed, size)
    return head + struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, offset) + name


def end(count: int, size: int, start: int, comment: bytes = b"") -> bytes:
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, start, len(comment)) + comment


def deflated(data: bytes) -> bytes:
    compress = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compress.compress(data) + compress.flush()


def one_entry(name: bytes, packed: bytes, size: int, crc: int, **kwargs: Any) -> bytes:
    head = local(name, packed, size, crc, **kwargs) + packed
    directory = central(name, len(packed), size, crc, 0, **kwargs)
    return head + directory + end(1, len(directory), len(head))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Archive]:
    def open_bytes(data: bytes, **limits: int) -> Archive:
        path = tmp_path / "x.zip"
        path.write_bytes(data)
        return open_archive(path, ArchiveLimits(**limits))

    return open_bytes


def refusal(opened: Callable[..., Archive], data: bytes, **limits: int) -> str:
    with pytest.raises(DatasetError) as caught:
        opened(data, **limits)
    return caught.value.code


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_archive_reads_as_zipfile_reads_it(opened: Callable[..., Archive], method: int) -> None:
    archive = opened(pack(FILES, method))

    assert {name: archive.read(name) for name in archive.entries} == FILES


def test_archives_of_a_stream_a_64_bit_writer_and_info_zip_are_read(
    opened: Callable[..., Archive], tmp_path: Path
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
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert {n: opened(pipe.written).read(n) for n in FILES} == FILES

    wide = io.BytesIO()
    with zipfile.ZipFile(wide, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    assert {n: opened(wide.getvalue()).read(n) for n in FILES} == FILES

    if shutil.which("zip"):
        for name, data in FILES.items():
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(data)
        subprocess.run(["zip", "-qr", "../made.zip", "."], cwd=tmp_path / "in", check=True)
        made = opened((tmp_path / "made.zip").read_bytes())
        assert {n: made.read(n) for n in FILES} == FILES
        assert "b/deep" in made.folders


def test_a_64_bit_end_record_is_read(opened: Callable[..., Archive]) -> None:
    data = pack(FILES, zipfile.ZIP_STORED)
    at = data.rindex(b"PK\x05\x06")
    *_, count, size, start, _ = struct.unpack("<4s4H2LH", data[at:])
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    short = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)

    archive = opened(data[:at] + wide + locator + short)

    assert {name: archive.read(name) for name in archive.entries} == FILES
    assert refusal(opened, data[:at] + short) == "zip_malformed"


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
def test_zip_01_anything_but_one_complete_zip_is_malformed(opened: Callable[..., Archive], damage: Any) -> None:
    assert refusal(opened, damage(pack(FILES))) == "zip_malformed"


def test_zip_01_encrypted_entries_are_refused(opened: Callable[..., Archive]) -> None:
    packed = deflated(b"secret")
    for flags in (0x1, 0x41, 0x2000):
        made = one_entry(b"a/1.png", packed, 6, zlib.crc32(b"secret"), flags=flags)
        assert refusal(opened, made) == "zip_encrypted"


def test_zip_01_an_end_record_hidden_in_the_comment_is_refused(opened: Callable[..., Archive]) -> None:
    data = pack(FILES)[:-2]
    hidden = end(0, 0, 0)

    assert refusal(opened, data + struct.pack("<H", len(hidden)) + hidden) == "zip_malformed"


def overlapping(entries: int, unpacked: int) -> bytes:
    """`entries` files that share one run of packed zeros: each header's extra field covers the headers after it."""
    packed, crc = deflated(bytes(unpacked)), zlib.crc32(bytes(unpacked))
    names = [f"a/{number:03d}.png".encode() for number in range(entries)]
    step = 30 + len(names[0])
    heads = b""
    for number, name in enumerate(names):
        behind = step * (entries - 1 - number)
        head = local(name, packed, unpacked, crc)
        heads += head[:28] + struct.pack("<H", behind) + head[30:]
    directory = b"".join(central(name, len(packed), unpacked, crc, step * number) for number, name in enumerate(names))
    return heads + packed + directory + end(entries, len(directory), len(heads) + len(packed))


def test_zip_02_overlapping_entries_are_refused(opened: Callable[..., Archive]) -> None:
    bomb = overlapping(200, 1_000_000)
    assert len(bomb) < 30_000

    assert refusal(opened, bomb, max_ratio=10**9) == "zip_overlap"
    assert refusal(opened, bomb) == "zip_too_large"  # by its ratio alone, before overlaps are checked
    assert refusal(opened, overlapping(200, 20)) == "zip_overlap"


def test_zip_02_entries_that_share_one_header_are_refused(opened: Callable[..., Archive]) -> None:
    packed, crc = deflated(b"same"), zlib.crc32(b"same")
    head = local(b"a/1.png", packed, 4, crc) + packed
    directory = central(b"b/1.png", len(packed), 4, crc, 0) + central(b"a/1.png", len(packed), 4, crc, 0)

    assert refusal(opened, head + directory + end(2, len(directory), len(head))) == "zip_overlap"


def test_zip_02_data_that_reach_into_the_directory_are_refused(opened: Callable[..., Archive]) -> None:
    head = local(b"a/1.png", b"x" * 60, 60, 0, method=0)
    directory = central(b"a/1.png", 60, 60, 0, 0, method=0)

    assert refusal(opened, head + directory + end(1, len(directory), len(head))) == "zip_overlap"


def test_zip_03_ratio_total_and_count_are_decided_from_the_directory(
    opened: Callable[..., Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: pytest.fail("unpacked before it was checked"))

    assert refusal(opened, pack({"a/1.png": bytes(10_000_000)})) == "zip_too_large"
    assert refusal(opened, pack({f"a/{i}.png": bytes(60_000) for i in range(40)})) == "zip_too_large"
    assert refusal(opened, pack(FILES), max_total_bytes=2000) == "zip_too_large"
    assert refusal(opened, pack(FILES), max_entries=3) == "zip_too_large"
    with pytest.raises(DatasetTooLarge):
        opened(pack({f"a/{i}": b"" for i in range(5000)}), max_entries=4999)


def test_zip_03_a_count_beyond_the_directory_is_refused_at_once(opened: Callable[..., Archive]) -> None:
    data = pack(FILES)
    at = data.rindex(b"PK\x05\x06")
    lying = data[: at + 8] + struct.pack("<HH", 60_000, 60_000) + data[at + 12 :]

    assert refusal(opened, lying) == "zip_malformed"


def test_zip_03_an_entry_over_the_limit_is_not_read(opened: Callable[..., Archive]) -> None:
    archive = opened(pack({"a/1.png": random.Random(0).randbytes(5000)}), max_entry_bytes=4999)

    with pytest.raises(DatasetTooLarge):
        archive.read("a/1.png")


@pytest.mark.parametrize("declared", [1, 999, 1001, 100_000])
def test_zip_04_a_wrong_declared_size_is_refused_when_the_entry_is_read(
    opened: Callable[..., Archive], declared: int
) -> None:
    data = random.Random(0).randbytes(1000)
    archive = opened(one_entry(b"a/1.png", deflated(data), declared, zlib.crc32(data)))

    with pytest.raises(ArchiveInvalid) as caught:
        archive.read("a/1.png")

    assert caught.value.code == "zip_size_mismatch"


def test_zip_04_reading_stops_one_byte_after_the_declared_size(
    opened: Callable[..., Archive], monkeypatch: pytest.MonkeyPatch
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

    archive = opened(one_entry(b"a/1.png", deflated(bytes(50_000_000)), 1000, 0), max_ratio=10**9)
    monkeypatch.setattr(zlib, "decompressobj", Watched)

    with pytest.raises(ArchiveInvalid):
        archive.read("a/1.png")

    assert sum(held) == 1001


def test_zip_04_two_sizes_for_one_entry_and_stored_sizes_that_differ_are_refused(
    opened: Callable[..., Archive],
) -> None:
    data = b"x" * 100
    packed, crc = deflated(data), zlib.crc32(data)
    head = local(b"a/1.png", packed, 90, crc) + packed
    directory = central(b"a/1.png", len(packed), 100, crc, 0)
    assert refusal(opened, head + directory + end(1, len(directory), len(head))) == "zip_size_mismatch"

    head = local(b"a/1.png", data, 100, crc, method=0) + data
    directory = central(b"a/1.png", 100, 90, crc, 0, method=0)
    assert refusal(opened, head + directory + end(1, len(directory), len(head))) == "zip_size_mismatch"


def test_bytes_that_fail_their_checksum_or_are_not_deflate_are_refused(opened: Callable[..., Archive]) -> None:
    data = b"y" * 100
    for packed, crc in ((deflated(data), 1), (b"\xff" * 40, zlib.crc32(data))):
        with pytest.raises(ArchiveInvalid) as caught:
            opened(one_entry(b"a/1.png", packed, 100, crc)).read("a/1.png")
        assert caught.value.code == "zip_malformed"


@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/../../x.png",
        "/etc/x.png",
        "C:/x.png",
        "c:x.png",
        "a\\x.png",
        "a/b\nx.png",
        "a//x.png",
        "./x.png",
        "a/./x.png",
        "..",
        "",
        "a/" + "n" * 300 + ".png",
    ],
)
def test_zip_05_bad_paths_are_refused(opened: Callable[..., Archive], name: str) -> None:
    raw = name.encode()

    assert refusal(opened, one_entry(raw, b"", 0, 0, method=0)) == "zip_bad_path"


def test_zip_05_a_nul_and_a_name_that_is_not_the_utf8_it_claims_are_refused(opened: Callable[..., Archive]) -> None:
    assert refusal(opened, one_entry(b"a/x\0.png", b"", 0, 0, method=0)) == "zip_bad_path"
    assert refusal(opened, one_entry(b"a/\xff.png", b"", 0, 0, flags=0x800, method=0)) == "zip_bad_path"
    assert "a/é.png" in opened(one_entry("a/é.png".encode(), b"", 0, 0, method=0)).entries
    assert "a/é.png" in opened(one_entry(b"a/\x82.png", b"", 0, 0, method=0)).entries  # code page 437


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_zip_06_links_and_devices_are_refused(opened: Callable[..., Archive], kind: int) -> None:
    entry = zipfile.ZipInfo("a/2.png")
    entry.external_attr = (kind | 0o644) << 16

    assert refusal(opened, with_entry(entry, b"/etc/passwd")) == "zip_symlink"


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.png", "a/1.png"),
        ("a/1.png", "a/1.PNG"),
        ("Cats/1.png", "cats/2.png"),
        ("a/straße.png", "a/STRASSE.png"),
        ("a/\u00e9.png", "a/e\u0301.png"),
        ("a", "a/1.png"),
        ("a/1.png/x.png", "a/1.png"),
        ("a/", "a/"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_07_names_that_are_equal_on_some_system_are_refused(
    opened: Callable[..., Archive], names: tuple[str, str]
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")

    assert refusal(opened, buffer.getvalue()) == "zip_duplicate_name"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_12_other_compression_methods_are_refused(opened: Callable[..., Archive], method: int) -> None:
    assert refusal(opened, pack(FILES, method)) == "zip_method_not_supported"


def test_zip_12_zstd_and_patched_data_are_refused(opened: Callable[..., Archive]) -> None:
    assert refusal(opened, one_entry(b"a/1.png", b"x", 1, 0, method=93)) == "zip_method_not_supported"
    assert refusal(opened, one_entry(b"a/1.png", b"x", 1, 0, flags=0x20)) == "zip_method_not_supported"


def test_a_local_header_that_disagrees_with_the_directory_is_refused(opened: Callable[..., Archive]) -> None:
    data = pack({"a/1.png": b"hello"}, zipfile.ZIP_STORED)

    assert refusal(opened, data.replace(b"a/1.png", b"b/2.png", 1)) == "zip_malformed"
    assert refusal(opened, data.replace(b"PK\x03\x04", b"PK\x03\x05", 1)) == "zip_malformed"


def test_many_threads_read_one_archive(opened: Callable[..., Archive]) -> None:
    files = {f"a/{number}.png": random.Random(number).randbytes(3000) for number in range(50)}
    archive = opened(pack(files))

    with ThreadPoolExecutor(8) as pool:
        read = dict(zip(files, pool.map(archive.read, files), strict=True))

    assert read == files


@pytest.mark.parametrize("seed", range(8))
def test_a_mutated_archive_is_refused_or_read_and_nothing_else_happens(
    opened: Callable[..., Archive], seed: int
) -> None:
    draw = random.Random(seed)
    wide = io.BytesIO()
    with zipfile.ZipFile(wide, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a/1.png", "w", force_zip64=True) as file:
            file.write(b"one" * 300)
        archive.mkdir("b")
        archive.writestr("b/2.png", b"two")
    good = (pack(FILES), pack(FILES, zipfile.ZIP_STORED), wide.getvalue(), overlapping(4, 50))
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
