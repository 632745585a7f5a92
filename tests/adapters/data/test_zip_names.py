"""Names in a zip file: decoded by their flag, and distinct on every system."""

from __future__ import annotations

import pytest

from lensmount_adapters.data.zip_names import check_names, decode_name
from lensmount_adapters.errors import ArchiveInvalid

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
