"""The advice of each refusal of a dataset is followed, one piece after the other, and the dataset is then read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.field_layouts import move, without
from tests.field_tables import CSV, TIDY, edited, lines, written
from tests.layouts import CATS, FLAT, Files, images, rows_of
from tests.refused_layouts import BAD
from tests.test_layouts import draw

from lensmount_adapters.data.dataset import list_folder
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.folder import read_mask_folder


@dataclass(frozen=True)
class Advice:
    """A piece of a refusal's text after "Fix:", and what following it changes: the files, or the depth of classes."""

    words: str
    mend: Callable[[Files], Files] = dict
    depth: int | None = None
    classes: tuple[str, ...] = ("cat", "dog")


def sorted_into(*folders: str) -> Callable[[Files], Files]:
    """Move the images into these folders by turns, and leave all other files out."""
    return lambda files: {
        f"{folders[number % len(folders)]}/{number}.png": content
        for number, (name, content) in enumerate(files.items())
        if name.endswith(".png") or name.endswith(".jpg")
    }


def listed_in_a_table(files: Files) -> Files:
    """Write a row for each image into a labels.csv, and leave the other tables out."""
    names = [name for name in files if name.endswith((".png", ".jpg"))]
    rows = "".join(f"{name},{'cat' if number % 2 else 'dog'}\n" for number, name in enumerate(names))
    return {name: files[name] for name in names} | {"labels.csv": f"path,label\n{rows}"}


def plus(more: Files) -> Callable[[Files], Files]:
    return lambda files: files | more


def renamed(old: str, new: str) -> Callable[[Files], Files]:
    return lambda files: {name.replace(old, new): content for name, content in files.items()}


FOLDERS = Advice("put the images of each class into a folder", sorted_into("cat", "dog"))
TABLE = Advice("add a labels.csv with the columns path and label", listed_in_a_table)
EACH_CLASS = Advice("put the images into a folder for each class", sorted_into("cat", "dog"))
GROUPS = Advice(
    "path and label (and group for the patient)",
    lambda files: listed_in_a_table(files) | {"labels.csv": _with_groups(listed_in_a_table(files))},
)
WRITTEN = Advice("write a labels.csv with the columns path and label", listed_in_a_table)
IN_FOLDERS = Advice("export it as classification folders", sorted_into("cat", "dog"))
NO_EMPTY = Advice("remove the folder", without("other/", "holdout/"))
ONE_LABEL = Advice("keep one label of each image", TIDY)
OTHER = Advice("add images", plus({"other/9.png": None}), classes=("cat", "dog", "other"))
MASKS_OUT = Advice("leave the masks out", lambda files: images("cat", "dog"))


def _with_groups(files: Files) -> str:
    """The table of `files` with the patient of each image."""
    head, *rows = str(files["labels.csv"]).splitlines()
    return "\n".join([f"{head},group", *(f"{row},p{number // 2}" for number, row in enumerate(rows)), ""])


def as_asked(depth: int, *classes: str) -> Advice:
    return Advice(f"--class-depth {depth}", depth=depth, classes=classes)


FOLLOWED: dict[str, tuple[Advice, ...]] = {
    "nothing": (
        Advice("put the images of each class into a folder", plus(CATS)),
        Advice("labels.csv", plus(FLAT | {"labels.csv": CSV})),
    ),
    "a flat folder": (FOLDERS, TABLE),
    "a flat folder with a table": (
        FOLDERS,
        Advice("rename it to labels.csv", lambda files: listed_in_a_table(without("train.csv")(files))),
    ),
    "one class": (
        Advice("add a folder with images of another class", plus(images("dog"))),
        Advice("put those of each class into a folder of its name", sorted_into("cat", "dog")),
        TABLE,
    ),
    "one class with patients": (
        Advice("add a folder with images of another class", plus(images("dog"))),
        as_asked(2, "cat/patient_1", "cat/patient_2"),
    ),
    "an empty class": (NO_EMPTY, OTHER),
    "a class without an image": (
        NO_EMPTY,
        OTHER,
        Advice(
            "If other/notes.txt has labels, write them into a labels.csv next to the images' folders", listed_in_a_table
        ),
    ),
    "a class of leftovers": (NO_EMPTY, OTHER),
    "an empty part": (
        NO_EMPTY,
        Advice("add images", plus(images("holdout/cat"))),
    ),
    "parts without classes": (
        Advice("(train/cat/1.png)", lambda files: images("train/cat", "train/dog", "test/cat")),
        as_asked(1, "test", "train"),
    ),
    "one part without classes": (
        Advice("(train/cat/1.png)", lambda files: move("test/1", "test/cat/1")(files)),
        Advice("leave out a part that has no classes", without("test/")),
    ),
    "parts next to other folders": (
        Advice("move all others elsewhere", without("extra/")),
        as_asked(1, "extra", "test", "train", "val"),
    ),
    "names that look like parts": (
        Advice("name the folders train, validation and test", renamed("seg_", "")),
        as_asked(1, "seg_test", "seg_train"),
    ),
    "nested names": (
        as_asked(1, "colon", "lung"),
        as_asked(2, "colon/aca", "colon/n", "lung/aca", "lung/scc"),
        TABLE,
    ),
    "nested grades": (
        as_asked(1, "healthy", "tumour"),
        as_asked(2, "healthy/old", "healthy/young", "tumour/grade1", "tumour/grade2"),
        TABLE,
    ),
    "nested names in a part": (
        Advice("--class-depth 1", plus(images("train/x")), 1, ("a", "x")),
        Advice("--class-depth 2", plus(images("train/x/cc")), 2, ("a/b", "a/cc", "x/cc")),
        TABLE,
    ),
    "images and masks": (MASKS_OUT, as_asked(1, "images", "masks")),
    "images and labels as masks": (MASKS_OUT, as_asked(1, "GroundTruth", "Images")),
    "images and masks in parts": (MASKS_OUT, as_asked(1, "images", "masks")),
    "images and masks in a folder of annotations": (MASKS_OUT, as_asked(1, "annotations", "images")),
    "images and masks in classes": (Advice("leave the masks out", without("cat/masks", "dog/masks")),),
    "masks next to their images": (
        Advice(
            "leave the masks out", lambda files: {name: each for name, each in files.items() if "_mask" not in name}
        ),
        as_asked(1, "cat", "dog"),
    ),
    "images of several classes in folders that look like parts": (
        Advice("(train/cat/1.png)", sorted_into("train/cat", "train/dog")),
        as_asked(1, "test1", "train"),
    ),
    "two kinds of images in parts": (
        Advice("(train/cat/1.png)", sorted_into("train/cat", "train/dog", "test/cat")),
        as_asked(1, "testA", "testB", "trainA", "trainB"),
    ),
    "folders that differ in case": (
        Advice("join the two", lambda files: {name.replace("Cat/", "cat/b"): each for name, each in files.items()}),
        Advice("rename one", renamed("Cat", "lion"), classes=("cat", "dog", "lion")),
    ),
    "files that differ in case": (Advice("rename one", renamed("A.png", "b.png")),),
    "labels that differ in case": (Advice("spell them alike", edited("Cat", "cat")),),
    "patients above the classes": (EACH_CLASS, GROUPS, as_asked(1, "patient_1", "patient_2")),
    "patients as classes": (EACH_CLASS, GROUPS, as_asked(1, "Patient01", "Patient02", "Patient03")),
    "folds": (EACH_CLASS, GROUPS, as_asked(1, "fold1", "fold2")),
    "images in pieces": (
        EACH_CLASS,
        GROUPS,
        as_asked(1, "HAM_images_part_1", "HAM_images_part_2"),
        Advice("rename it to labels.csv", lambda files: listed_in_a_table(without("a.csv")(files))),
    ),
    "a deep path": (
        Advice("remove it", without("x/")),
        Advice("move it up", lambda files: without("x/")(files) | {"cat/x.png": None}),
    ),
    "a long path": (
        Advice("shorten the names", lambda files: {n.replace("w" * 250, "w"): each for n, each in files.items()}),
    ),
    "several labels with bars": (ONE_LABEL,),
    "several labels with semicolons": (ONE_LABEL,),
    "several labels in a list": (Advice("keep one label of each image", written(lines(), "manifest.jsonl")),),
    "a column for each label": (Advice("add a column label", TIDY),),
    "two columns of labels": (
        Advice(
            "rename the one to use to label",
            written(rows_of("image,label,diagnosis", "images/{n}.png,{label},b")),
        ),
    ),
    "two files with one name": (
        Advice(
            "write the whole path with its suffix", written("path,label\na/1.png,x\nb/1.png,y\n"), classes=("x", "y")
        ),
    ),
    "two rows for one file": (Advice("remove one of the rows", edited("images/0.png,dog", "images/1.png,dog")),),
    "a web address": (
        Advice("download the image and write its path", edited("https://x.org/0.png,cat\n", "0.png,cat\n1.png,dog\n")),
    ),
    "Cyrillic in Windows-1251": (
        Advice("save it as UTF-8", written("path,label\n0.png,болезнь\n1.png,норма\n"), classes=("болезнь", "норма")),
    ),
    "a missing file": (
        Advice("correct the path", written("path,label\n0.png,cat\n1.png,dog\n")),
        Advice("remove the row", written("path,label\nimages/0.png,cat\nimages/1.png,dog\n")),
    ),
    "an unknown part": (
        Advice("write one", written("path,label,split\n0.png,cat,test\n1.png,cat,train\n2.png,dog,train\n")),
    ),
    "COCO with several labels": (IN_FOLDERS, WRITTEN),
    "CVAT with boxes": (
        WRITTEN,
        Advice(
            "give it a label and export again",
            written(
                '<annotations><image name="images/0.png"><tag label="cat"/></image>'
                '<image name="images/1.png"><tag label="dog"/></image></annotations>',
                "annotations.xml",
            ),
        ),
    ),
    "Label Studio with several labels": (IN_FOLDERS, WRITTEN),
    "Pascal VOC with two names": (
        Advice("write a labels.csv", lambda files: files | {"JPEGImages/2.png": None, "labels.csv": _VOC_ROWS}),
    ),
    "YOLO with boxes": (IN_FOLDERS, WRITTEN),
}
_VOC_ROWS = "path,label\nJPEGImages/1.png,cat\nJPEGImages/2.png,dog\n"


@pytest.mark.parametrize("name", BAD)
def test_each_piece_of_the_advice_about_a_layout_is_followed_and_works(name: str, tmp_path: Path) -> None:
    files, _ = BAD[name]
    root = draw(tmp_path / "d", files)
    root.mkdir(exist_ok=True)
    with pytest.raises(DatasetError) as caught:
        list_folder(root)
    advice = str(caught.value).partition("Fix: ")[2]

    for number, piece in enumerate(FOLLOWED[name]):
        assert piece.words in advice
        mended = draw(tmp_path / f"mended{number}", piece.mend(files))
        assert list_folder(mended, class_depth=piece.depth).classes == piece.classes, piece.words


@pytest.mark.parametrize("name", ["images and masks", "images and labels as masks", "masks next to their images"])
def test_the_advice_to_train_masks_gives_pairs_of_images_and_masks(name: str, tmp_path: Path) -> None:
    files, found = BAD[name]
    root = draw(tmp_path / "d", files)
    with pytest.raises(DatasetError, match=r"use images/ and masks/ with files of the same names and train_segmen"):
        list_folder(root)

    as_advised = dict(zip(["images/0.png", "masks/0.png"], list(files)[:2], strict=True))
    mended = draw(tmp_path / "m", dict.fromkeys(as_advised))

    assert found == "train_segmentation" or "train_segmentation" in found
    assert len(read_mask_folder(mended, ("mask",)).samples) == 1
