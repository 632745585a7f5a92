"""Names in a zip file: decoded by their flag, inside of the folder, and distinct on every system."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters.data.zip_names import check_names, decode_name
from lensmount_adapters.data.zip_reader import Archive
from lensmount_adapters.errors import ArchiveInvalid

if TYPE_CHECKING:
    from tests.adapters.data.conftest import Zips

UTF8 = 0x0800


def test_names_are_utf8_or_code_page_437() -> None:
    assert decode_name("a/é.png".encode(), UTF8, 1, 255) == "a/é.png"
    assert decode_name("a/é.png".encode(), 0, 1, 255) == "a/é.png"
    assert decode_name(b"a/\x82.png", 0, 1, 255) == "a/é.png"
    with pytest.raises(ArchiveInvalid, match="entry 7: found a name that is not UTF-8"):
        decode_name(b"a/\x82.png", UTF8, 7, 255)


def test_the_limit_of_a_name_counts_bytes() -> None:
    assert decode_name("é".encode() * 5, UTF8, 1, 10)
    with pytest.raises(ArchiveInvalid, match="found a name of 10 bytes, expected at most 9") as caught:
        decode_name("é".encode() * 5, UTF8, 1, 9)
    assert caught.value.code == "zip_bad_path"


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
