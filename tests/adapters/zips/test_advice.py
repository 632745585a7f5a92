"""The advice of each refusal of a zip is followed, and the zip is then read with all its files."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.adapters.zips.conftest import Zips

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.zips.reader import Archive

PACKED = Zips.pack(Zips.FILES)
NOISE = bytes((n * n * 7 + n // 3) % 256 for n in range(5000))
Following = Callable[[dict[str, bytes]], bytes]


def again(files: dict[str, bytes]) -> bytes:
    """Pack the files again, with Deflate, as one whole zip without a comment or a password."""
    return Zips.pack(files)


def uncompressed(files: dict[str, bytes]) -> bytes:
    """What `zip -0` writes."""
    return Zips.pack(files, zipfile.ZIP_STORED)


def one(name: str | bytes, data: bytes = b"x", flags: int = 0) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    return Zips.one_entry(raw, data, len(data), zlib.crc32(data), flags=flags, method=0)


def of_kind(kind: int) -> bytes:
    entry = zipfile.ZipInfo("a/2.png")
    entry.external_attr = (kind | 0o644) << 16
    return Zips.with_entry(entry, b"/etc/passwd")


def with_comment(data: bytes, comment: bytes) -> bytes:
    return data[:-2] + struct.pack("<H", len(comment)) + comment


def with_names(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


def many_comments() -> bytes:
    """One entry with a comment of 60,000 bytes in the directory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("a/1.png")
        entry.comment = bytes(60_000)
        archive.writestr(entry, b"x")
    return buffer.getvalue()


def a_folder_with_bytes() -> bytes:
    return one("a/", b"xx")


def sizes_that_differ() -> bytes:
    head = Zips.local(b"a/1.png", b"x" * 100, 100, zlib.crc32(b"x" * 100), method=0) + b"x" * 100
    directory = Zips.central(b"a/1.png", 100, 90, zlib.crc32(b"x" * 100), 0, method=0)
    return head + directory + Zips.end(1, len(directory), len(head))


# the zip, words of the refusal with its advice, the limits, the files, and how they are packed as advised
OPENED: dict[str, tuple[bytes, str, dict[str, int], dict[str, bytes], Following]] = {
    "a cut upload": (PACKED[:-30], "Fix: check that the upload is complete", {}, Zips.FILES, again),
    "a zip in the comment": (
        with_comment(PACKED, Zips.end(0, 0, 0)),
        "Fix: pack the archive again without a comment",
        {},
        Zips.FILES,
        again,
    ),
    "one part of several": (PACKED[:-18] + b"\1\0" + PACKED[-16:], "Fix: pack it unsplit", {}, Zips.FILES, again),
    "many entries": (
        PACKED,
        "Fix: divide them into several zips",
        {"max_entries": 3},
        dict(list(Zips.FILES.items())[:2]),
        again,
    ),
    "a large directory": (
        many_comments(),
        "Fix: pack the files again without comments",
        {"max_name_bytes": 200},
        {"a/1.png": b"x"},
        again,
    ),
    "bytes before the zip": (b"before" + PACKED, "Fix: pack or send the archive again", {}, Zips.FILES, again),
    "an encrypted entry": (one("a/1.png", flags=1), "Fix: pack without a password", {}, {"a/1.png": b"x"}, again),
    "another method": (
        Zips.pack(Zips.FILES, zipfile.ZIP_BZIP2),
        "Fix: pack the folder again with the method Deflate",
        {},
        Zips.FILES,
        again,
    ),
    "a folder with bytes": (a_folder_with_bytes(), "Fix: pack the folder again", {}, {"a/1.png": b"x"}, again),
    "two sizes": (sizes_that_differ(), "Fix: pack the folder again", {}, {"a/1.png": b"x" * 100}, again),
    "too many bytes": (
        Zips.pack({"a/1.png": NOISE, "a/2.png": NOISE[::-1]}),
        "or divide them into several zips",
        {"max_total_bytes": 6000},
        {"a/1.png": NOISE},
        again,
    ),
    "images that are too large": (
        Zips.pack({"a/1.png": NOISE, "a/2.png": NOISE[::-1]}),
        "Fix: save the images smaller",
        {"max_total_bytes": 6000},
        {"a/1.png": NOISE[:2000], "a/2.png": NOISE[:3000]},
        again,
    ),
    "one file that packs too well": (
        Zips.pack({"a/1.png": bytes(10_000_000)}),
        r"Fix: pack it uncompressed \(zip -0\)",
        {},
        {"a/1.png": bytes(10_000_000)},
        uncompressed,
    ),
    "files that pack too well": (
        Zips.pack({f"a/{n}.png": bytes(60_000) for n in range(40)}),
        r"Fix: pack uncompressed \(zip -0\)",
        {},
        {f"a/{n}.png": bytes(60_000) for n in range(40)},
        uncompressed,
    ),
    "entries that overlap": (Zips.overlapping(200, 20), "Fix: pack the files again", {}, Zips.FILES, again),
    "a device": (of_kind(stat.S_IFCHR), r"or leave it out", {}, {"a/1.png": b"first"}, again),
    "a folder called like a file": (of_kind(stat.S_IFDIR), "Fix: pack the folder again", {}, {"a/2/x": b"x"}, again),
    "a name that is not the UTF-8 that it claims": (
        one(b"a/\xff.png", flags=0x800),
        "Fix: pack the folder again",
        {},
        {"a/\u00ff.png": b"x"},
        again,
    ),
    "a long path": (one(f"{'d/' * 600}x.png"), "Fix: shorten its folders", {}, {"d/x.png": b"x"}, again),
    "a backslash": (one("a/b\\x.png"), "Fix: rename it without the '.'", {}, {"a/bx.png": b"x"}, again),
    "an absolute path": (one("/home/me/a/x.png"), "Fix: pack the folder itself", {}, {"a/x.png": b"x"}, again),
    "a drive": (one("C:/a/x.png"), "Fix: pack the folder itself", {}, {"a/x.png": b"x"}, again),
    "a path that leads out": (one("../a/x.png"), "Fix: pack the folder itself", {}, {"a/x.png": b"x"}, again),
    "a control character": (one("a/b\nx.png"), "Fix: rename it", {}, {"a/bx.png": b"x"}, again),
    "a control character, left out": (
        one("a/b\nx.png"),
        "or leave it out of the zip",
        {},
        {"a/1.png": b"x"},
        again,
    ),
    "a long name": (one(f"a/{'n' * 300}.png"), "Fix: give it a shorter name", {}, {"a/n.png": b"x"}, again),
    "names that differ in case": (
        with_names("a/1.png", "a/1.PNG"),
        "Fix: rename one of them",
        {},
        {"a/1.png": b"", "a/2.PNG": b""},
        again,
    ),
    "folders that differ in case": (
        with_names("a/1.png", "A/2.png"),
        "Fix: rename one of them",
        {},
        {"a/1.png": b"", "b/2.png": b""},
        again,
    ),
    "a file and a folder of one name": (
        with_names("a", "a/1.png"),
        "Fix: rename one of them",
        {},
        {"b": b"", "a/1.png": b""},
        again,
    ),
}


@pytest.mark.parametrize("name", OPENED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_is_packed_as_advised_is_read(name: str, opened: Callable[..., Archive]) -> None:
    data, found, limits, files, pack = OPENED[name]
    with pytest.raises(DatasetError, match=f"(?s){found}"):
        opened(data, **limits)

    archive = opened(pack(files), **limits)
    assert {entry: archive.read(entry) for entry in files} == files


DATA = b"y" * 100


@pytest.mark.parametrize(
    ("data", "limits", "found", "mended"),
    [
        (Zips.pack({"a/1.png": NOISE}), {"max_entry_bytes": 4999}, "or save it smaller", NOISE[:4000]),
        (Zips.one_entry(b"a/1.png", Zips.deflated(DATA), 100, 1), {}, "Fix: pack or send the archive again", DATA),
        (Zips.one_entry(b"a/1.png", b"\xff" * 40, 100, 1), {}, "damaged. Fix: pack or send the archive again", DATA),
        (Zips.one_entry(b"a/1.png", Zips.deflated(DATA), 99, 1), {}, "99 declared. Fix: pack the files again", DATA),
    ],
    ids=["a large file", "another checksum", "damaged bytes", "another size"],
)
def test_a_file_in_a_zip_that_is_packed_as_advised_is_read(
    data: bytes, limits: dict[str, int], found: str, mended: bytes, opened: Callable[..., Archive]
) -> None:
    archive = opened(data, **limits)
    with pytest.raises(DatasetError, match=found):
        archive.read("a/1.png")

    assert opened(Zips.pack({"a/1.png": mended}), **limits).read("a/1.png") == mended


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
def test_a_zip_with_a_link_is_refused_and_zip_without_y_packs_the_file_itself(
    tmp_path: Path, opened: Callable[..., Archive]
) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "1.png").write_bytes(b"picture")
    (tmp_path / "in" / "a" / "1.png").symlink_to(tmp_path / "1.png")

    subprocess.run(["zip", "-qry", "../linked.zip", "."], cwd=tmp_path / "in", check=True)
    with pytest.raises(DatasetError, match=r"Fix: pack the file itself \(zip without -y\), or leave it out"):
        opened((tmp_path / "linked.zip").read_bytes())

    subprocess.run(["zip", "-qr", "../made.zip", "."], cwd=tmp_path / "in", check=True)
    assert opened((tmp_path / "made.zip").read_bytes()).read("a/1.png") == b"picture"
