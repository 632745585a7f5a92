"""Dataset zips that are hostile or broken: each row is refused with its code, and nothing is stored or written.

tests/adapters/zips has the reader's own tests. Here the same kinds arrive at the server, by both of its doors.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeParts, MakePng

Files = dict[str, bytes]
END = "<4s4H2LH"
MALFORMED, BAD_PATH, TWICE = "zip_malformed", "zip_bad_path", "zip_duplicate_name"


@pytest.fixture(scope="module")
def parts(make_shared_parts: MakeParts) -> Iterator[Parts]:
    with make_shared_parts(max_dataset_bytes=2**21, max_dataset_files=300, max_dataset_classes=20) as parts:
        yield parts


@pytest.fixture(scope="module")
def api(parts: Parts) -> Iterator[TestClient]:
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def good(images: DrawImages) -> Files:
    return images(a=2, b=2)


def packed(files: Files, method: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def named(*names: str | bytes) -> Callable[[Files], bytes]:
    """The good files and one of each name. `bytes` are names in the archive as they are, as long as text."""

    def make(good: Files) -> bytes:
        image = next(iter(good.values()))
        data = packed(good | {name if isinstance(name, str) else "@" * len(name): image for name in names})
        for name in names:
            if isinstance(name, bytes):
                data = data.replace(b"@" * len(name), name)
        return data

    return make


def twice(one: str, other: str) -> Callable[[Files], bytes]:
    def make(good: Files) -> bytes:
        image = next(iter(good.values()))
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
            for name, data in [*good.items(), (one, image), (other, image)]:
                archive.writestr(zipfile.ZipInfo(name), data)
        return buffer.getvalue()

    return make


def of_kind(kind: int, name: str = "a/9.png") -> Callable[[Files], bytes]:
    def make(good: Files) -> bytes:
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
            for known, data in good.items():
                archive.writestr(zipfile.ZipInfo(known), data)
            special = zipfile.ZipInfo(name)
            special.create_system, special.external_attr = 3, (kind | 0o644) << 16
            archive.writestr(special, "/etc/passwd")
        return buffer.getvalue()

    return make


def changed_end(**fields: int) -> Callable[[Files], bytes]:
    """The good archive with other numbers in its end record: `disk`, `count`, `size`, `start` or `here`."""

    def make(good: Files) -> bytes:
        data = packed(good)
        at = data.rindex(b"PK\x05\x06")
        names = ("magic", "disk", "start_disk", "here", "count", "size", "start", "comment")
        values = dict(zip(names, struct.unpack(END, data[at:]), strict=True)) | fields
        return data[:at] + struct.pack(END, *values.values())

    return make


def changed_entry(at: int, value: bytes, where: bytes = b"PK\x01\x02") -> Callable[[Files], bytes]:
    """The good archive with other bytes in one entry of its directory, or in its local header."""

    def make(good: Files) -> bytes:
        data = bytearray(packed(good))
        start = data.index(where) + at
        data[start : start + len(value)] = value
        return bytes(data)

    return make


def wide(count: int | None = None, size: int | None = None, start: int | None = None) -> Callable[[Files], bytes]:
    """The good archive with a 64-bit end record, whose numbers may lie."""

    def make(good: Files) -> bytes:
        data = packed(good)
        at = data.rindex(b"PK\x05\x06")
        *_, entries, length, first, _ = struct.unpack(END, data[at:])
        numbers = [
            entries if count is None else count,
            length if size is None else size,
            first if start is None else start,
        ]
        record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, numbers[0], *numbers)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
        full = struct.pack(END, b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        return data[:at] + record + locator + full

    return make


def sharing(entries: int, unpacked: int) -> Callable[[Files], bytes]:
    """`entries` names of one and the same packed bytes."""

    def make(good: Files) -> bytes:
        data = bytes(unpacked)
        compress = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = compress.compress(data) + compress.flush()
        head = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 33, zlib.crc32(data), len(body), unpacked, 7, 0)
        local = head + b"a/1.png" + body
        directory = b"".join(
            struct.pack("<4s6H3L", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, zlib.crc32(data), len(body), unpacked)
            + struct.pack("<5H2L", 7, 0, 0, 0, 0, 0, 0)
            + b"a/%d.png" % (n % 10)
            for n in range(entries)
        )
        return (
            local + directory + struct.pack(END, b"PK\x05\x06", 0, 0, entries, entries, len(directory), len(local), 0)
        )

    return make


def labelled(rows: bytes, name: str = "labels.csv") -> Callable[[Files], bytes]:
    return lambda good: packed(good | {name: rows})


def noise(count: int) -> Files:
    return {f"a/{n}.png": random.Random(n).randbytes(8) for n in range(count)}


ROWS: dict[str, tuple[Callable[[Files], bytes], int, str]] = {
    "ZIP-01 nothing": (lambda good: b"", 422, MALFORMED),
    "ZIP-01 text": (lambda good: b"hello", 422, MALFORMED),
    "ZIP-01 a tar file": (lambda good: b"a/1.png" + bytes(1017), 422, MALFORMED),
    "ZIP-01 half": (lambda good: packed(good)[:900], 422, MALFORMED),
    "ZIP-01 without its last byte": (lambda good: packed(good)[:-1], 422, MALFORMED),
    "ZIP-01 bytes before": (lambda good: b"#!/bin/sh\n" + packed(good), 422, MALFORMED),
    "ZIP-01 bytes behind": (lambda good: packed(good) + b"\0" * 9, 422, MALFORMED),
    "ZIP-01 two archives": (lambda good: packed(good) + packed(good), 422, MALFORMED),
    "ZIP-01 no directory": (lambda good: packed(good)[: packed(good).index(b"PK\x01\x02")], 422, MALFORMED),
    "ZIP-01 the second disk": (changed_end(disk=1, start_disk=1), 422, MALFORMED),
    "ZIP-01 fewer entries here": (changed_end(here=1), 422, MALFORMED),
    "ZIP-01 more entries than there are": (changed_end(here=9, count=9), 422, MALFORMED),
    "ZIP-01 fewer entries than there are": (changed_end(here=3, count=3), 422, MALFORMED),
    "ZIP-01 a directory elsewhere": (changed_end(start=0), 422, MALFORMED),
    "ZIP-01 a directory beyond the end": (changed_end(start=2**31), 422, MALFORMED),
    "ZIP-01 a directory of another size": (changed_end(size=1), 422, MALFORMED),
    "ZIP-01 full fields without a 64-bit record": (changed_end(count=0xFFFF, here=0xFFFF), 422, MALFORMED),
    "ZIP-01 64 bits: a count beyond any file": (wide(count=2**63), 413, "zip_too_large"),
    "ZIP-01 64 bits: a start beyond any file": (wide(start=2**64 - 1), 422, MALFORMED),
    "ZIP-01 64 bits: a size beyond any file": (wide(size=2**62), 422, MALFORMED),
    "ZIP-01 64 bits: another count": (wide(count=3), 422, MALFORMED),
    "ZIP-01 encrypted": (changed_entry(8, b"\x01\0"), 422, "zip_encrypted"),
    "ZIP-01 encrypted in its header only": (changed_entry(6, b"\x01\0", b"PK\x03\x04"), 422, "zip_encrypted"),
    "ZIP-01 strongly encrypted": (changed_entry(8, b"\x41\0"), 422, "zip_encrypted"),
    "ZIP-01 encrypted by AES": (changed_entry(10, b"\x63\0"), 422, "zip_method_not_supported"),
    "ZIP-01 an entry on another disk": (changed_entry(34, b"\x01\0"), 422, MALFORMED),
    "ZIP-02 ten names of one entry": (sharing(10, 1000), 422, "zip_overlap"),
    "ZIP-02 2 names of one entry": (sharing(2, 1000), 422, "zip_overlap"),
    "ZIP-02 an entry in the directory": (changed_entry(42, b"\xff\xff\x01\0"), 422, MALFORMED),
    "ZIP-02 an entry at another offset": (changed_entry(42, b"\x05\0\0\0"), 422, "zip_overlap"),
    "ZIP-03 a bomb": (lambda good: packed({"a/1.png": bytes(2_000_000)}, zipfile.ZIP_DEFLATED), 413, "zip_too_large"),
    "ZIP-03 many small bombs": (
        lambda good: packed({f"a/{n}.png": bytes(60_000) for n in range(40)}, zipfile.ZIP_DEFLATED),
        413,
        "zip_too_large",
    ),
    "ZIP-03 more than the limit": (
        lambda good: packed({f"a/{n}.png": b"ab" * 30_000 for n in range(60)}, zipfile.ZIP_DEFLATED),
        413,
        "zip_too_large",
    ),
    "ZIP-03 302 entries": (lambda good: packed(noise(302)), 413, "zip_too_large"),
    "ZIP-03 302 folders": (lambda good: packed({f"{n}/": b"" for n in range(302)}), 413, "zip_too_large"),
    "ZIP-04 a larger size": (changed_entry(24, b"\xff\xff\0\0"), 422, "zip_size_mismatch"),
    "ZIP-04 a smaller size": (changed_entry(24, b"\x01\0\0\0"), 422, "zip_size_mismatch"),
    "ZIP-04 a size of 4 GiB": (changed_entry(24, b"\xfe\xff\xff\xff"), 422, "zip_size_mismatch"),
    "ZIP-04 a packed size of 0": (changed_entry(20, b"\0\0\0\0"), 422, "zip_size_mismatch"),
    "ZIP-04 another size in the header": (changed_entry(22, b"\x01\0\0\0", b"PK\x03\x04"), 422, "zip_size_mismatch"),
    "ZIP-04 another checksum": (changed_entry(16, b"\0\0\0\0"), 422, MALFORMED),
    "ZIP-04 another name in the header": (changed_entry(30, b"b", b"PK\x03\x04"), 422, MALFORMED),
    "ZIP-05 above": (named("../x.png"), 422, BAD_PATH),
    "ZIP-05 above, later": (named("a/../../x.png"), 422, BAD_PATH),
    "ZIP-05 above, at the end": (named("a/.."), 422, BAD_PATH),
    "ZIP-05 absolute": (named("/etc/x.png"), 422, BAD_PATH),
    "ZIP-05 absolute twice": (named("//host/x.png"), 422, BAD_PATH),
    "ZIP-05 a drive": (named("C:/x.png"), 422, BAD_PATH),
    "ZIP-05 a drive and a backslash": (named("C:\\x.png"), 422, BAD_PATH),
    "ZIP-05 a drive without a folder": (named("c:x.png"), 422, BAD_PATH),
    "ZIP-05 a backslash above": (named("..\\x.png"), 422, BAD_PATH),
    "ZIP-05 a host": (named("\\\\host\\x.png"), 422, BAD_PATH),
    "ZIP-05 both separators": (named("a/b\\x.png"), 422, BAD_PATH),
    "ZIP-05 NUL": (named(b"a/x.png\0.exe"), 422, BAD_PATH),
    "ZIP-05 a line feed": (named("a/x\n.png"), 422, BAD_PATH),
    "ZIP-05 an escape": (named("a/\x1b[2J.png"), 422, BAD_PATH),
    "ZIP-05 another direction": (named("a/gnp.\u202e.png"), 422, BAD_PATH),
    "ZIP-05 C1": (named("a/\x9b2J.png"), 422, BAD_PATH),
    "ZIP-05 300 bytes": (named("a/" + "n" * 300 + ".png"), 422, BAD_PATH),
    "ZIP-05 2,000 bytes of folders": (named("a/" * 1000 + "x.png"), 422, BAD_PATH),
    "ZIP-05 a folder without a name": (named("a//x.png"), 422, BAD_PATH),
    "ZIP-05 this folder": (named("./x.png"), 422, BAD_PATH),
    "ZIP-06 a link": (of_kind(stat.S_IFLNK), 422, "zip_symlink"),
    "ZIP-06 a pipe": (of_kind(stat.S_IFIFO), 422, "zip_symlink"),
    "ZIP-06 a device": (of_kind(stat.S_IFCHR), 422, "zip_symlink"),
    "ZIP-06 a disk": (of_kind(stat.S_IFBLK), 422, "zip_symlink"),
    "ZIP-06 a socket": (of_kind(stat.S_IFSOCK), 422, "zip_symlink"),
    "ZIP-06 a link to a folder": (of_kind(stat.S_IFLNK, "a/sub/"), 422, "zip_symlink"),
    "ZIP-06 a hidden link": (of_kind(stat.S_IFLNK, "a/.x.png"), 422, "zip_symlink"),
    "ZIP-06 a folder with the name of a file": (of_kind(stat.S_IFDIR), 422, MALFORMED),
    "ZIP-07 the same": (twice("a/x.png", "a/x.png"), 422, TWICE),
    "ZIP-07 in upper case": (twice("a/x.png", "a/X.PNG"), 422, TWICE),
    "ZIP-07 a folder in upper case": (twice("c/x.png", "C/y.png"), 422, TWICE),
    "ZIP-07 another form of Unicode": (twice("a/\u00e9.png", "a/e\u0301.png"), 422, TWICE),
    "ZIP-07 folded letters": (twice("a/stra\u00dfe.png", "a/STRASSE.png"), 422, TWICE),
    "ZIP-07 a file and a folder": (twice("a/x", "a/x/y.png"), 422, TWICE),
    "ZIP-07 a file below a file": (twice("a/x.png/y.png", "a/x.png"), 422, TWICE),
    "ZIP-09 no entry": (lambda good: packed({}), 422, "dataset_too_small"),
    "ZIP-09 no image": (lambda good: packed({"a/1.txt": b"x", "b/1.txt": b"x"}), 422, "dataset_too_small"),
    "ZIP-09 one class": (lambda good: packed({n: d for n, d in good.items() if n[0] == "a"}), 422, "dataset_too_small"),
    "ZIP-09 one image of a class": (
        lambda good: packed({n: d for n, d in good.items() if n != "b/1.png"}),
        422,
        "dataset_too_small",
    ),
    "ZIP-09 21 classes": (
        lambda good: packed({f"{n}/{m}.png": d for n in range(21) for m, d in enumerate(list(good.values())[:2])}),
        413,
        "dataset_too_large",
    ),
    "ZIP-10 a broken image of four": (
        lambda good: packed(good | {"a/0.png": b"broken"}),
        422,
        "dataset_unreadable",
    ),
    "ZIP-10 an empty image": (lambda good: packed(good | {"a/0.png": b""}), 422, "dataset_unreadable"),
    "ZIP-10 a page of HTML": (lambda good: packed(good | {"a/0.png": b"<html>"}), 422, "dataset_unreadable"),
    "ZIP-11 an unknown file": (labelled(b"path,label\na/7.png,x\n"), 422, "dataset_invalid"),
    "ZIP-11 a file above": (labelled(b"path,label\n../a/0.png,x\n"), 422, "dataset_invalid"),
    "ZIP-11 a file twice": (labelled(b"path,label\na/0.png,x\na/0.png,y\n"), 422, "dataset_invalid"),
    "ZIP-11 no label": (labelled(b"path,label\na/0.png,\n"), 422, "dataset_invalid"),
    "ZIP-11 no header": (labelled(b"a/0.png,x\na/1.png,y\n"), 422, "dataset_invalid"),
    "ZIP-11 nothing": (labelled(b""), 422, "dataset_invalid"),
    "ZIP-11 Latin-1 in a label": (labelled(b"path,label\na/0.png,\xff\n"), 422, "dataset_invalid"),
    "ZIP-11 NUL in a label": (labelled(b"path,label\na/0.png,x\0y\n"), 422, "dataset_invalid"),
    "ZIP-11 an escape in a label": (labelled(b"path,label\na/0.png,x\x1b[2J\n"), 422, "dataset_invalid"),
    "ZIP-11 a line of 300 kB": (labelled(b"path,label\na/0.png," + b"x" * 300_000 + b"\n"), 422, "dataset_invalid"),
    "ZIP-11 an open quote": (labelled(b'path,label\na/0.png,"x\n' + b"y" * 10_000), 422, "dataset_invalid"),
    "ZIP-11 an unknown part": (
        labelled(b"path,label,split\na/0.png,x,sideways\nb/0.png,y,train\n"),
        422,
        "dataset_invalid",
    ),
    "ZIP-11 a list of JSON": (labelled(b"[1, 2]\n", "manifest.jsonl"), 422, "dataset_invalid"),
    "ZIP-11 deep JSON": (labelled(b"[" * 100_000, "manifest.jsonl"), 422, "dataset_invalid"),
    "ZIP-11 a label that is a number": (
        labelled(b'{"path": "a/0.png", "label": 1e999}\n', "manifest.jsonl"),
        422,
        "dataset_invalid",
    ),
    "ZIP-12 bzip2": (lambda good: packed(good, zipfile.ZIP_BZIP2), 422, "zip_method_not_supported"),
    "ZIP-12 LZMA": (lambda good: packed(good, zipfile.ZIP_LZMA), 422, "zip_method_not_supported"),
    "ZIP-12 Zstandard": (changed_entry(10, b"\x5d\0"), 422, "zip_method_not_supported"),
    "ZIP-12 Deflate64": (changed_entry(10, b"\x09\0"), 422, "zip_method_not_supported"),
    "ZIP-12 a method of nobody": (changed_entry(10, b"\xff\xff"), 422, "zip_method_not_supported"),
    "ZIP-12 another method in the header": (changed_entry(8, b"\x08\0", b"PK\x03\x04"), 422, MALFORMED),
    "ZIP-12 patched data": (changed_entry(8, b"\x20\0"), 422, "zip_method_not_supported"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("row", ROWS)
def test_a_bad_zip_is_refused_with_its_code_and_nothing_is_written(
    api: TestClient, parts: Parts, good: Files, refused: Any, row: str
) -> None:
    make, status, code = ROWS[row]
    data = make(good)

    answer = api.put("/datasets/cells", content=data)
    refused(api, answer, status, code)
    assert "Fix: " in answer.json()["detail"]
    if data:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        headers = {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}
        again = api.put(f"/datasets/cells/uploads/{digest}", content=data, headers=headers)
        refused(api, again, status, code)
    assert api.get("/datasets").json() == {"datasets": []}
    imported = api.post("/adapters/cells/import", content=data)  # the other route that opens zips
    assert imported.status_code in (413, 415, 422), imported.text
    folder = Path(parts.app.state.context.settings.state) / "datasets"
    assert [path for path in folder.rglob("*") if path.is_file()] == []


KEPT: dict[str, tuple[Callable[[Files], bytes], int]] = {
    "ZIP-08 what macOS adds": (
        lambda good: packed(good | {"__MACOSX/a/._1.png": b"x", "a/.DS_Store": b"x", "a/Icon\r": b""}),
        3,
    ),
    "ZIP-08 what Windows adds": (lambda good: packed(good | {"a/Thumbs.db": b"x", "a/desktop.ini": b"x"}), 2),
    "ZIP-08 an archive in the archive": (lambda good: packed(good | {"a/more.zip": packed(good)}), 1),
    "ZIP-08 other files": (lambda good: packed(good | {"a/notes.txt": b"x", "README.md": b"x"}), 2),
    "ZIP-12 deflate": (lambda good: packed(good, zipfile.ZIP_DEFLATED), 0),
    "ZIP-01 64 bits that are true": (wide(), 0),
    "ZIP-11 a formula is a label": (
        labelled(b"path,label\na/0.png,=cmd()\na/1.png,=cmd()\nb/0.png,y\nb/1.png,y\n"),
        0,
    ),
}


@pytest.mark.parametrize("row", KEPT)
def test_an_odd_zip_of_one_meaning_is_taken_and_what_is_left_out_is_counted(
    api: TestClient, good: Files, row: str
) -> None:
    make, ignored = KEPT[row]

    answer = api.put("/datasets/kept", content=make(good))

    assert answer.status_code in (200, 201), answer.text
    assert (answer.json()["images"], answer.json()["report"]["ignored"]["files"]) == (4, ignored)
    api.delete("/datasets/kept?purge=true")


def test_zip_10_a_few_broken_images_of_many_are_left_out_and_listed(api: TestClient, make_png: MakePng) -> None:
    files = {f"{'ab'[n % 2]}/{n}.png": make_png(n, (8, 8)) for n in range(200)}

    answer = api.put("/datasets/few", content=packed(files | {"a/0.png": b"broken", "b/1.png": b""}))

    assert answer.status_code == 201, answer.text
    assert answer.json()["images"] == 198
    told = json.dumps(answer.json()["report"])
    assert "a/0.png" in told
    assert "b/1.png" in told
    api.delete("/datasets/few?purge=true")


def test_zip_13_an_image_in_two_parts_is_taken_with_a_warning(api: TestClient, good: Files) -> None:
    parts = {"a/0.png": "train", "a/1.png": "validation", "b/0.png": "train", "b/1.png": "validation"}
    rows = "".join(f"{path},{path[0]},{part}\n" for path, part in parts.items())
    files = good | {"a/1.png": good["a/0.png"], "labels.csv": f"path,label,split\n{rows}".encode()}

    answer = api.put("/datasets/leaks", content=packed(files))

    assert answer.status_code == 201, answer.text
    assert any(
        "leak" in warning["code"] or "split" in warning["message"] for warning in answer.json()["report"]["warnings"]
    )
    api.delete("/datasets/leaks?purge=true")
