"""Names in a zip file: decoded by their flag, inside of the folder, and distinct on every system."""

from __future__ import annotations

import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters.errors import ArchiveInvalid
from lensmount_adapters.zips.names import StoredName, check_names, decode_name, decode_names
from lensmount_adapters.zips.reader import Archive

if TYPE_CHECKING:
    from tests.adapters.zips.conftest import Zips

UTF8 = 0x0800


def unicode_path(raw: bytes, name: str, checksum: int | None = None) -> bytes:
    """The extra field 0x7075 as APPNOTE.TXT 4.6.9 writes it."""
    body = struct.pack("<BL", 1, zlib.crc32(raw) if checksum is None else checksum) + name.encode()
    return struct.pack("<HH", 0x7075, len(body)) + body


def named(raw: bytes, flags: int = 0, extra: bytes = b"") -> str:
    """The name of a single entry."""
    return decode_names([StoredName(raw, flags, extra)], 255)[0][0]


WORDS = ("норма/1.png", "инфекция/1.png", "größe/1.png")


def test_names_are_utf8_or_in_a_code_page() -> None:
    assert named("a/é.png".encode(), UTF8) == "a/é.png"
    assert named("a/é.png".encode()) == "a/é.png"
    assert named(b"a/\x82.png") == "a/é.png"
    with pytest.raises(ArchiveInvalid, match=r"entry 7 \(.*\): found a name that is not UTF-8, although its flag says"):
        decode_name(StoredName(b"a/\x82.png", UTF8), 7, 255)


def test_the_unicode_path_field_comes_first_if_its_checksum_fits() -> None:
    raw = "正常/0.png".encode("gbk")
    other = struct.pack("<HHL", 0x5455, 4, 0)  # a time, which many programs write before it

    assert named(raw, extra=other + unicode_path(raw, "正常/0.png")) == "正常/0.png"
    assert named(b"fallback.png", UTF8, unicode_path(b"fallback.png", "ü/0.png")) == "ü/0.png"
    renamed = unicode_path(b"before.png", "ü/0.png")
    assert named(b"after.png", extra=renamed) == "after.png"
    assert named(b"x.png", extra=unicode_path(b"x.png", "ok")[:-1] + b"\xff") == "x.png"  # no UTF-8 in the field
    assert named(b"x.png", extra=unicode_path(b"x.png", "y" * 300)[:8]) == "x.png"  # cut short


def test_a_unicode_path_cannot_lead_out_of_the_archive() -> None:
    for name in ("../x.png", "/etc/x.png", "a/\0.png", "C:/x.png"):
        with pytest.raises(ArchiveInvalid) as caught:
            named(b"x.png", extra=unicode_path(b"x.png", name))
        assert caught.value.code == "zip_bad_path"


def test_a_guess_is_noted_and_following_the_note_removes_it(opened: Callable[..., Archive]) -> None:
    names = ["正常/0.png", "感染/0.png"]
    stored = [StoredName(name.encode("gbk")) for name in names]

    read, notes = decode_names(stored, 255)

    assert read == names
    assert len(notes) == 1
    assert "2 name(s) in the zip are not UTF-8; they were read as GBK (simplified Chinese)" in notes[0]
    assert "Fix if that is wrong: pack the folder with UTF-8 names" in notes[0]
    assert decode_names([StoredName(name.encode(), UTF8) for name in names], 255) == (names, ())


def test_a_zip_that_mixes_utf8_with_a_code_page_or_two_code_pages_is_said_to_do_so() -> None:
    utf8, dos, windows = (name.encode(page) for name, page in zip(WORDS, ("utf-8", "cp866", "cp1252"), strict=True))

    read, notes = decode_names([StoredName(utf8), StoredName(dos)], 255)

    assert read == list(WORDS[:2])
    assert "1 name(s) in the zip are not UTF-8" in notes[0]
    assert "1 other name(s) are UTF-8, so the zip mixes encodings" in notes[0]
    (note,) = decode_names([StoredName(dos), StoredName(windows)], 255)[1]
    assert "may mix code pages" in note
    assert "would be 'größe' in Windows-1252" in note
    assert not decode_names([StoredName(name.encode()) for name in WORDS], 255)[1]  # the advice


def test_the_note_shows_what_another_code_page_makes_of_a_name() -> None:
    names, notes = decode_names([StoredName("lesão/1.png".encode("mac-roman"))], 255)

    assert names != ["lesão/1.png"]
    assert "It could also be " in notes[0]
    assert f"'lesão/1.png' instead of {names[0]!r} if it was Mac OS Roman" in notes[0]


def test_all_names_of_one_archive_are_in_one_code_page() -> None:
    names = ["Здоровый/1.png", "к/2.png", "ж/2.png"]  # a single letter alone could be anything

    assert decode_names([StoredName(name.encode("cp866")) for name in names], 255)[0] == names


@pytest.mark.parametrize("name", ["Ångström/1.png", "가/1.png", "nº/ñ.png", "Å/é/ü.png"])
def test_names_are_in_normal_form_c(name: str) -> None:
    decomposed = unicodedata.normalize("NFD", name)

    assert named(decomposed.encode()) == named(name.encode()) == unicodedata.normalize("NFC", name)
    assert named(b"x", extra=unicode_path(b"x", decomposed)) == unicodedata.normalize("NFC", name)


def test_backslashes_between_folders_are_read_as_folders_with_a_note() -> None:
    stored = [StoredName(name) for name in (b"cells\\a\\1.png", b"cells\\b\\", b"readme.txt")]

    names, notes = decode_names(stored, 255)

    assert names == ["cells/a/1.png", "cells/b/", "readme.txt"]
    assert len(notes) == 1
    assert "2 name(s) in the zip have backslashes" in notes[0]
    assert decode_names([StoredName("表/1.png".encode("cp932"))], 255)[0] == ["表/1.png"]  # its second byte is one


@pytest.mark.parametrize("name", [b"a/b\\c.png", b"..\\x.png", b"a\\..\\..\\x.png", b"\\\\server\\x.png", b"C:\\x.png"])
def test_a_backslash_in_a_name_with_a_slash_or_out_of_the_archive_is_refused(name: bytes) -> None:
    with pytest.raises(ArchiveInvalid, match=r"^entry 1 \(.*Fix: ") as caught:
        named(name)
    assert caught.value.code == "zip_bad_path"


@pytest.mark.parametrize(
    "name", ["cells/Icon\r", "Icon\r", "__MACOSX/cells/._Icon\r", ".hidden\n/x", "a/.fseventsd\x01"]
)
def test_leftovers_of_systems_may_have_any_name(name: str) -> None:
    assert named(name.encode()) == name


def test_leftovers_may_occur_twice() -> None:
    check_names([".DS_Store", "a/.DS_Store", "a/.ds_store", ".DS_Store", "a/1.png", "Icon\r", "Icon\r"])


def test_a_control_character_is_refused_with_the_entry_and_the_character() -> None:
    names = [StoredName(f"a/{number}.png".encode()) for number in range(24)]

    with pytest.raises(ArchiveInvalid) as caught:
        decode_names([*names, StoredName(b"a/\t1.png")], 255)

    assert str(caught.value) == (
        r"entry 25 ('a/\t1.png'): found the control character '\t' in its name, expected printable characters. "
        "Fix: rename it, or leave it out of the zip"
    )
    assert decode_names([*names, StoredName(b"a/1.png")], 255)  # renamed
    assert decode_names(names, 255)  # left out


def test_the_limit_of_a_name_counts_bytes() -> None:
    assert decode_name(StoredName("é".encode() * 5), 1, 10)
    with pytest.raises(ArchiveInvalid, match=r"found a name of 10 bytes, expected at most 9\. Fix: shorten") as caught:
        decode_name(StoredName("é".encode() * 5), 1, 9)
    assert caught.value.code == "zip_bad_path"


def test_a_long_path_is_read_and_a_long_file_name_is_refused_by_name(opened: Callable[..., Archive]) -> None:
    path = "/".join(["folder of a long name"] * 12) + "/image.png"
    assert len(path) > 255
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(path, b"x")
    assert opened(buffer.getvalue()).read(path) == b"x"
    with pytest.raises(
        ArchiveInvalid, match=r"entry 3 \('a/nnn.*found a file or folder name of 256 bytes, expected at"
    ):
        decode_name(StoredName(b"a/" + b"n" * 252 + b".png"), 3, 1024)
    assert decode_name(StoredName(b"a/" + b"n" * 251 + b".png"), 3, 1024)


def test_distinct_names_and_folders_with_their_own_entry_are_accepted() -> None:
    check_names(["a/", "a/1.png", "a/deep/2.png", "b/1.png", "a/deep/"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "A/1.png"], "occurs twice"),
        (["a/1.png", "A/2.png"], "differ only in case"),
        (["a", "a/1.png"], "is both a file and a folder"),
        (["a/\u00e9", "a/e\u0301"], "occurs twice"),
    ],
)
def test_names_that_collide_on_some_system_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ArchiveInvalid, match=f"{message}.*Fix: rename one of them") as caught:
        check_names(names)

    assert caught.value.code == "zip_duplicate_name"


@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/../../x.png",
        "/etc/x.png",
        "C:/x.png",
        "c:x.png",
        "a/b\\x.png",
        "a/b\nx.png",
        "a//x.png",
        "./x.png",
        "a/./x.png",
        "..",
        "",
        "a/" + "n" * 300 + ".png",
    ],
)
def test_zip_05_bad_paths_are_refused(zips: type[Zips], refusal: Callable[..., str], name: str) -> None:
    raw = name.encode()

    assert refusal(zips.one_entry(raw, b"", 0, 0, method=0)) == "zip_bad_path"


def test_zip_05_a_nul_and_a_name_that_is_not_the_utf8_it_claims_are_refused(
    zips: type[Zips], refusal: Callable[..., str], opened: Callable[..., Archive]
) -> None:
    assert refusal(zips.one_entry(b"a/x\0.png", b"", 0, 0, method=0)) == "zip_bad_path"
    assert refusal(zips.one_entry(b"a/\xff.png", b"", 0, 0, flags=0x800, method=0)) == "zip_bad_path"
    assert "a/é.png" in opened(zips.one_entry("a/é.png".encode(), b"", 0, 0, method=0)).entries
    assert "a/é.png" in opened(zips.one_entry(b"a/\x82.png", b"", 0, 0, method=0)).entries  # code page 437


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_zip_06_links_and_devices_are_refused(zips: type[Zips], refusal: Callable[..., str], kind: int) -> None:
    entry = zipfile.ZipInfo("a/2.png")
    entry.external_attr = (kind | 0o644) << 16

    assert refusal(zips.with_entry(entry, b"/etc/passwd")) == "zip_symlink"


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
    refusal: Callable[..., str], names: tuple[str, str]
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")

    assert refusal(buffer.getvalue()) == "zip_duplicate_name"
