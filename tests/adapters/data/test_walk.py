"""Which names below a folder are looked at, against a list by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lensmount_adapters.data.walk import check_names, is_passed_over, passed_over_part, walk
from lensmount_adapters.errors import DatasetError

# From the systems' own documents: Apple TN1188 and Finder, Windows shell, Synology and QNAP, Lightroom, Picasa.
LEFTOVERS = (
    *(".DS_Store", "._cat.png", ".Spotlight-V100", ".Trashes", ".fseventsd", "__MACOSX", "Icon\r", ".AppleDouble"),
    *(
        "Thumbs.db",
        "THUMBS.DB",
        "ehthumbs.db",
        "desktop.ini",
        "Desktop.ini",
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        "RECYCLER",
    ),
    *("System Volume Information", "@eaDir", "#recycle", "@Recycle", "@tmp", "#snapshot", ".@__thumb", "lost+found"),
    *("Previews.lrdata", "Catalog.lrcat", "1.xmp", "1.XMP", ".picasa.ini", "Picasa.ini", "IMG_1.AAE"),
)
DATA = ("cat", "1.png", "icon.png", "recycle", "thumbs", "@home", "#1", "$5", "desktop", "xmp", "lost", "MACOSX", "+ve")


@pytest.mark.parametrize("name", LEFTOVERS)
def test_what_systems_and_programs_leave_is_passed_over(name: str) -> None:
    assert is_passed_over(name)
    assert passed_over_part(f"a/{name}/b/1.png") == f"a/{name}/"
    assert passed_over_part(f"a/{name}") == f"a/{name}"


@pytest.mark.parametrize("name", DATA)
def test_names_that_only_look_similar_are_data(name: str) -> None:
    assert not is_passed_over(name)
    assert passed_over_part(f"{name}/{name}") is None


def test_files_come_before_folders_and_each_is_sorted(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a b/3.png", "a/z.png", "9.png", "Icon\r", ".git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    found = [(one.path, one.kind) for one in walk(str(tmp_path))]

    assert found == [
        (".git/", "hidden"),
        ("9.png", "file"),
        ("Icon\r", "hidden"),
        *((name, "folder") for name in ("a", "a b", "b")),
        ("a/z.png", "file"),
        ("a b/3.png", "file"),
        ("b/1.png", "file"),
        ("b/2.png", "file"),
    ]


def test_circles_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "to b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to a").symlink_to(tmp_path / "a")
    (tmp_path / "itself").symlink_to("itself")
    os.mkfifo(tmp_path / "pipe")

    kinds = {one.path: one.kind for one in walk(str(tmp_path))}

    assert kinds["a/to b"] == kinds["b/to a"] == "folder"
    assert kinds["a/to b/to a"] == kinds["b/to a/to b"] == "loop"
    assert (kinds["itself"], kinds["pipe"]) == ("broken", "special")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: the folder cannot be read \(No such file.*Fix"):
        list(walk(str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["Cat/1.png", "cat/2.png"], "found Cat and cat, which"),
        (["a/1.png", "a/1.PNG"], r"found a/1\.PNG and a/1\.png, which"),
        (["a/b/1.png", "a/B/2.png"], "found a/b and a/B, which"),
        (["Straße/1.png", "STRASSE/2.png"], "found Straße and STRASSE"),
        (["/".join(["é" * 120] * 5)], "path of 1204 bytes"),
        (["b\udce9.png"], "not UTF-8"),
    ],
)
def test_names_that_another_system_cannot_tell_apart_or_hold_are_refused(names: list[str], found: str) -> None:
    with pytest.raises(DatasetError, match=f"{found}.*Fix: "):
        check_names(names)


def test_other_names_pass() -> None:
    check_names(["a/1.png", "a/2.png", "b/1.png", "A.png", "é" * 127 + "e"])
