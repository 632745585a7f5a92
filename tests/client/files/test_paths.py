from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from lensmount_client import InvalidInput
from lensmount_client._files.paths import find_images, make_folder, read_file


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "._a.jpg", "deep/c.tiff", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(tree: Path, where: str | Path) -> list[str]:
    return [str(Path(path).relative_to(tree)) for path in find_images(where)]


def test_a_folder_gives_its_images_in_order_and_nothing_hidden(tree: Path) -> None:
    assert names(tree, tree) == ["a.JPG", "b.png", "deep/c.tiff"]


def test_what_a_folder_leaves_out_is_counted_by_kind(tree: Path) -> None:
    (tree / "again").symlink_to(tree)
    left_out: Counter[str] = Counter()
    assert len(list(find_images(tree, left_out))) == 3
    assert left_out == {".txt": 1, "hidden": 1, "hidden folders": 1, "links to a folder above them or to nothing": 1}


def test_a_pattern_gives_what_it_matches(tree: Path) -> None:
    assert names(tree, f"{tree}/**/*.png") == ["b.png"]
    assert names(tree, f"{tree}/*.txt") == ["notes.txt"]


def test_a_file_is_itself_whatever_its_suffix_and_brackets(tree: Path) -> None:
    (tree / "odd[1].txt").write_bytes(b"x")
    assert names(tree, tree / "odd[1].txt") == ["odd[1].txt"]


@pytest.mark.parametrize("where", ["none.png", "*.gif", "empty"])
def test_nothing_found_is_an_error(tree: Path, where: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"no such|no file matches|no images"):
        list(find_images(tree / where))


def test_a_folder_is_walked_only_as_far_as_it_is_read(tree: Path) -> None:
    found = find_images(tree)
    first = list(islice(found, 2))
    (tree / "deep" / "later.png").write_bytes(b"x")
    assert len(first + list(found)) == 4


def test_a_mistyped_file_name_gets_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "malaria.safetensors").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"no such file\. Did you mean 'malaria\.safetensors'\?"):
        read_file(tmp_path / "malara.safetensors")
    with pytest.raises(InvalidInput, match=r"no such file$"):
        read_file(tmp_path / "nowhere" / "malara.safetensors")


def test_a_folder_is_made_once_and_what_is_in_its_way_is_named(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "new" / "deep", "--out")
    assert (tmp_path / "new" / "deep").is_dir()

    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"--out .*file/deep: this folder cannot be made \(Not a directory\)"):
        make_folder(tmp_path / "file" / "deep", "--out")
