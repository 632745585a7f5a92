"""Datasets of labelled images: class folders, files of labels, and zip files of both."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lensmount_adapters.data.dataset import list_folder, read_folder, read_pixels
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import Preprocessing

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

RULE = Preprocessing(size=(32, 24), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def test_classes_are_the_sorted_folder_names_and_samples_are_in_path_order(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", zebra=3, ant=2)

    folder = read_folder(root)

    assert folder.classes == ("ant", "zebra")
    assert folder.counts() == {"ant": 2, "zebra": 3}
    assert [s.path for s in folder.samples] == sorted(s.path for s in folder.samples)
    assert folder.labels().tolist() == [0, 0, 1, 1, 1]


def test_a_sample_has_the_sha256_of_its_file(draw_folder: DrawFolder, tmp_path: Path) -> None:
    folder = read_folder(draw_folder(tmp_path / "d", a=2, b=2))

    sample = folder.samples[0]

    assert sample.digest == hashlib.sha256((folder.root / sample.path).read_bytes()).hexdigest()


def test_the_digest_does_not_depend_on_the_folder_s_location_but_on_every_byte(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)
    shutil.copytree(root, tmp_path / "elsewhere")
    assert read_folder(root).digest == read_folder(tmp_path / "elsewhere").digest

    changed = tmp_path / "elsewhere" / "a" / "a_s00_00.png"
    changed.write_bytes(changed.read_bytes() + b"\0")

    assert read_folder(root).digest != read_folder(tmp_path / "elsewhere").digest


def test_the_first_group_of_the_expression_names_the_slide(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=4, b=2)

    folder = read_folder(root, r"^(.+_s\d+)_")

    assert [s.group for s in folder.samples] == ["a_s00", "a_s00", "a_s01", "a_s01", "b_s00", "b_s00"]


def test_an_expression_that_misses_a_file_is_refused_with_the_file_named(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)

    with pytest.raises(DatasetError, match=r"does not match 'b/b_s00_00\.png'"):
        read_folder(root, r"^(a)_")
    with pytest.raises(DatasetError, match="not a regular expression"):
        read_folder(root, "(")


def test_the_expression_sees_the_folders_where_the_file_s_name_does_not_match(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", a=4, b=2)
    for number, path in enumerate(sorted((root / "a").iterdir())):
        (root / "a" / f"patient_{number // 2}").mkdir(exist_ok=True)
        path.rename(root / "a" / f"patient_{number // 2}" / path.name)
    (root / "b" / "patient_1").mkdir()
    for path in (root / "b").glob("*.png"):
        path.rename(root / "b" / "patient_1" / path.name)

    for expression in (r"patient_\d+", r"(patient_\d+)/", r"^./(patient_\d+)"):
        groups = [s.group for s in read_folder(root, expression).samples]
        assert groups == ["patient_0"] * 2 + ["patient_1"] * 4  # one patient in two classes is one group
    with pytest.raises(DatasetError, match=r"does not match 'a/patient_0/.*or in every path"):
        read_folder(root, "subject")


def test_a_class_of_two_levels_has_another_digest_than_one_of_one_level(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    drawn = draw_folder(tmp_path / "drawn", aca=2, scc=2, other=2)
    root = tmp_path / "d"
    for name, below in (("aca", "lung/aca"), ("scc", "lung/scc"), ("other", "colon/aca")):
        shutil.copytree(drawn / name, root / below)

    one, two = (read_folder(root, class_depth=depth) for depth in (1, 2))

    assert one.counts() == {"colon": 2, "lung": 4}
    assert two.counts() == {"colon/aca": 2, "lung/aca": 2, "lung/scc": 2}
    assert one.digest != two.digest


def test_no_folder_no_classes_one_class_and_an_empty_class_are_each_refused_with_a_fix(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="found no folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DatasetError, match=r"no class folders.*Fix"):
        read_folder(tmp_path / "bare")
    with pytest.raises(DatasetError, match=r"one class folder \(a\)"):
        read_folder(draw_folder(tmp_path / "one", a=2))
    root = draw_folder(tmp_path / "empty", a=2, b=2)
    (root / "c").mkdir()
    (root / "c" / "notes.txt").write_text("nothing to see")
    with pytest.raises(DatasetError, match="no images in c,"):
        read_folder(root)


def test_files_that_are_not_images_are_ignored_and_named(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / ".hidden.png").write_bytes(b"x")

    folder = read_folder(root)

    assert len(folder) == 4
    assert "2 hidden (such as a/.hidden.png, a/Thumbs.db)" in folder.notes[0]


def test_unreadable_and_truncated_images_are_listed_together(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=3, b=3)
    whole = root / "a" / "a_s00_00.png"
    whole.write_bytes(whole.read_bytes()[:900])
    (root / "b" / "text.png").write_text("not an image")
    folder = read_folder(root)

    with pytest.raises(DatasetError) as caught:
        read_pixels(folder, folder.samples, RULE)

    assert "2 of 7 images cannot be read" in str(caught.value)
    assert "a/a_s00_00.png" in str(caught.value)
    assert "b/text.png" in str(caught.value)


def test_byte_identical_images_share_a_group_even_across_slides(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=6, b=2)
    shutil.copy(root / "a" / "a_s00_00.png", root / "a" / "a_s02_99.png")

    folder = read_folder(root, r"^(.+_s\d+)_")

    groups = {s.path: s.group for s in folder.samples}
    assert (
        len({groups[f"a/a_s00_0{i}.png"] for i in (0, 1)} | {groups["a/a_s02_99.png"], groups["a/a_s02_04.png"]}) == 1
    )
    assert groups["a/a_s01_02.png"] == "a_s01"
    assert "byte-identical" in folder.notes[0]


def test_one_image_in_two_classes_is_reported(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)
    shutil.copy(root / "a" / "a_s00_00.png", root / "b" / "copy.png")

    assert any("two classes" in note and "a and b" in note for note in read_folder(root).notes)


def test_pixels_are_those_that_serving_would_see(draw_folder: DrawFolder, tmp_path: Path) -> None:
    folder = read_folder(draw_folder(tmp_path / "d", a=2, b=2))

    pixels = normalise(read_pixels(folder, folder.samples, RULE), RULE)

    expected = [preprocess(decode_image((folder.root / s.path).read_bytes()), RULE) for s in folder.samples]
    assert torch.equal(pixels, torch.stack(expected))


def test_labels_of_an_adapter_order_the_classes_and_unknown_classes_are_refused(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)

    folder = read_folder(root, classes=["c", "b", "a"])

    assert {s.path[0]: s.label for s in folder.samples} == {"a": 2, "b": 1}
    with pytest.raises(DatasetError, match=r"found the class folder\(s\) b"):
        read_folder(root, classes=["a", "x"])


# Zip files and files of labels


def pack(root: Path, target: Path, below: str = "", more: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*"), reverse=True):  # the order in a zip does not matter
            if path.is_file():
                archive.write(path, below + path.relative_to(root).as_posix())
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return target


def test_a_zip_of_a_folder_is_the_folder(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", **{"a b": 5, "a": 5, "é": 3})
    (root / "a" / "deep").mkdir()
    shutil.move(root / "a" / "a_s00_00.png", root / "a" / "deep" / "a_s00_00.png")
    shutil.copy(root / "a" / "a_s02_04.png", root / "a b" / "copy.png")

    folder = read_folder(root)

    for zipped in (pack(root, tmp_path / "1.zip"), pack(root, tmp_path / "2.zip", "top/")):
        found = read_folder(zipped)
        assert found.samples == folder.samples
        assert (found.classes, found.digest) == (folder.classes, folder.digest)
        assert found.notes[: len(folder.notes)] == folder.notes
        assert all(found.read(s.path) == folder.read(s.path) for s in folder.samples)
        assert torch.equal(read_pixels(found, found.samples, RULE), read_pixels(folder, folder.samples, RULE))


def test_zip_08_system_files_and_nested_zips_are_ignored(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)
    more = {"__MACOSX/a/._1.png": b"x", "cells/.DS_Store": b"x", "cells/a/Thumbs.db": b"x", "cells/a/inner.zip": b"PK"}

    zipped = pack(root, tmp_path / "d.zip", "cells/", more)

    listed = list_folder(zipped)
    assert listed.classes == ("a", "b")
    assert listed.ignored == ("a/inner.zip",)
    assert sorted(listed.hidden) == [".DS_Store", "__MACOSX/", "a/Thumbs.db"]
    assert read_folder(zipped).samples == read_folder(root).samples
    assert "1 .zip, 1 hidden folders" in read_folder(zipped).notes[-1]
    assert "in the folder cells" in read_folder(zipped).notes[0]


def test_one_class_in_a_top_folder_is_still_one_class(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=3)

    with pytest.raises(DatasetError, match=r"one class folder \(a\)") as caught:
        read_folder(pack(root, tmp_path / "d.zip"))

    assert caught.value.code == "dataset_too_small"


LABELS = "path,label,group,split\nimages/1.png,dog,p2,test\nimages/2.png,cat,p1,train\nimages/3.png,cat,,\n"


@pytest.fixture
def labelled(draw_folder: DrawFolder, tmp_path: Path) -> Path:
    root = draw_folder(tmp_path / "labelled", images=3)
    for number, path in enumerate(sorted((root / "images").iterdir()), start=1):
        path.rename(root / "images" / f"{number}.png")
    (root / "labels.csv").write_text(LABELS)
    return root


def test_a_file_of_labels_gives_classes_groups_and_parts(labelled: Path, tmp_path: Path) -> None:
    for root in (
        labelled,
        labelled / "labels.csv",
        pack(labelled, tmp_path / "1.zip"),
        pack(labelled, tmp_path / "2.zip", "top/"),
    ):
        folder = read_folder(root, r"^(.)")
        assert folder.classes == ("cat", "dog")
        assert [(s.path, s.label, s.group, s.split) for s in folder.samples] == [
            ("images/2.png", 0, "p1", "train"),
            ("images/3.png", 0, "3", None),
            ("images/1.png", 1, "p2", "test"),
        ]


def test_other_labels_on_the_same_images_change_the_digest(labelled: Path) -> None:
    before = read_folder(labelled).digest

    (labelled / "labels.csv").write_text(LABELS.replace("3.png,cat", "3.png,dog"))

    assert read_folder(labelled).digest != before


def test_labels_that_are_the_folders_give_the_digest_of_the_folders(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)
    before = read_folder(root)
    rows = [f'{{"path": "{s.path}", "label": "{before.classes[s.label]}"}}' for s in reversed(before.samples)]

    (root / "manifest.jsonl").write_text("\n".join(rows))

    assert read_folder(root).samples == before.samples


def test_zip_11_a_row_without_a_file_is_refused_and_a_file_without_a_row_is_left_out(
    labelled: Path, tmp_path: Path
) -> None:
    (labelled / "labels.csv").write_text(LABELS + "images/9.png,cat,,\n")
    for root in (labelled, pack(labelled, tmp_path / "1.zip")):
        with pytest.raises(DatasetError, match=r"labels\.csv, row 5: found no file 'images/9\.png'"):
            read_folder(root)
    (labelled / "labels.csv").write_text("path,label\nimages/1.png,dog\nimages/2.png,cat\n")
    for root in (labelled, pack(labelled, tmp_path / "2.zip")):  # a file of labels may select
        assert len(read_folder(root)) == 2
        assert "1 not in labels.csv (such as images/3.png)" in read_folder(root).notes[-1]
    (labelled / "labels.csv").write_text("path,label\nimages/1.txt,dog\n")
    with pytest.raises(DatasetError, match=r"row 2: found no file 'images/1\.txt' next to labels\.csv"):
        read_folder(labelled)


def test_two_files_of_labels_and_a_single_label_are_refused(labelled: Path) -> None:
    (labelled / "labels.csv").write_text("path,label\nimages/1.png,dog\nimages/2.png,dog\n")
    with pytest.raises(DatasetError, match=r"found one label \(dog\)"):
        read_folder(labelled)
    (labelled / "manifest.csv").write_text(LABELS)
    with pytest.raises(DatasetError, match=r"found manifest\.csv and labels\.csv"):
        read_folder(labelled)


def test_a_damaged_image_in_a_zip_is_listed_like_one_on_disk(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2)
    (root / "b" / "b_s00_00.png").write_bytes(b"not an image")
    folder = read_folder(pack(root, tmp_path / "d.zip"))

    with pytest.raises(DatasetError, match=r"1 of 4 images cannot be read:\n  b/b_s00_00\.png"):
        read_pixels(folder, folder.samples, RULE)
