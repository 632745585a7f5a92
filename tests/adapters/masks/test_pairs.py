"""Every common layout and way to name masks gives the pairs that were drawn, and two readings are refused by name."""

from __future__ import annotations

import re
import unicodedata

import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.pairs import Pair, find_pairs, wrapping_folder

IN_FOLDERS = {
    "equal names": ("0.png", "0.png"),
    "another suffix": ("0.jpg", "0.png"),
    "upper case suffix": ("0.PNG", "0.png"),
    "upper case name": ("IMG_0.JPG", "img_0.png"),
    "_mask": ("0.png", "0_mask.png"),
    "_Segmentation": ("ISIC_0000000.jpg", "ISIC_0000000_Segmentation.png"),
    "-seg": ("0.png", "0-seg.png"),
    ".gt": ("0.png", "0.gt.png"),
    "_ground_truth": ("a b.tif", "a b_ground_truth.tif"),
    "mask_ before": ("0.png", "mask_0.png"),
    "mask before": ("image12.png", "mask12.png"),
    "image_ and label_": ("image_007.png", "label_007.png"),
    "_image and _mask": ("007_image.png", "007_mask.png"),
    "two suffixes": ("0.jpg", "0.jpg.png"),
    "number in the name": ("benign (1).png", "benign (1)_mask.png"),
    "_cp_masks of Cellpose": ("well 1.tif", "well 1_cp_masks.tif"),
    "nested": ("aachen/0.png", "aachen/0.png"),
    "nested with a mark": ("aachen/0.png", "aachen/0_labels.png"),
    "normal forms": (unicodedata.normalize("NFD", "zelle_ä.png"), unicodedata.normalize("NFC", "zelle_ä.png")),
    "a mark in the image's name": ("seg_0_mask.png", "seg_0_mask.png"),
}


@pytest.mark.parametrize(("image", "mask"), IN_FOLDERS.values(), ids=IN_FOLDERS)
@pytest.mark.parametrize("folders", ["images masks", "Images Masks", "imgs gt", "img labels", "set/images set/masks"])
def test_names_in_two_folders_match(image: str, mask: str, folders: str) -> None:
    left, right = folders.split()

    found = find_pairs("d", [f"{left}/{image}", f"{right}/{mask}"])

    assert found.pairs == (Pair(f"{left}/{image}", (f"{right}/{mask}",)),)
    assert (found.without_mask, found.without_image, found.ignored) == ((), (), ())


def test_every_image_keeps_its_own_mask_among_names_that_resemble_each_other() -> None:
    names = ["1.png", "11.png", "1_1.png", "mask_1.png", "1_mask.png", "1_mask1.png", "seg.png", "A.png", "a.png"]
    files = [f"{folder}/{name}" for folder in ("images", "masks") for name in names]

    found = find_pairs("d", files)

    assert {pair.image[7:]: [mask[6:] for mask in pair.masks] for pair in found.pairs} == {n: [n] for n in names}


OBJECTS = {
    "numbered": ["masks/0_mask1.png", "masks/0_mask2.png", "masks/0_mask10.png"],
    "numbered after a sign": ["masks/0_mask.png", "masks/0_mask_1.png"],
    "folder": ["masks/0/a.png", "masks/0/b.png"],
    "folder with a mark": ["masks/0_masks/a.png", "masks/0_masks/b.png"],
    "folder with the suffix": ["masks/0.png/1.png", "masks/0.png/2.png"],
}


@pytest.mark.parametrize("masks", OBJECTS.values(), ids=OBJECTS)
def test_files_of_one_object_each_are_joined(masks: list[str]) -> None:
    found = find_pairs("d", ["images/0.png", "images/1.png", "masks/1.png", *masks])

    assert [set(pair.masks) for pair in found.pairs] == [set(masks), {"masks/1.png"}]
    assert found.without_image == ()


def test_one_folder_for_each_image_is_read_as_in_the_data_science_bowl() -> None:
    files = [f"stage1_train/{key}/{name}.png" for key in "ab" for name in (f"images/{key}", "masks/x1", "masks/x2")]

    found = find_pairs("d", [*files, "stage1_train/c/images/c.png"])

    assert [(pair.image, len(pair.masks)) for pair in found.pairs] == [
        ("stage1_train/a/images/a.png", 2),
        ("stage1_train/b/images/b.png", 2),
    ]
    assert found.without_mask == ("stage1_train/c/images/c.png",)


def test_masks_next_to_their_images_are_told_by_their_mark() -> None:
    files = [
        "benign/b (1).png",
        "benign/b (1)_mask.png",
        "benign/b (1)_mask_1.png",
        "normal/n.jpg",
        "normal/n_mask.png",
    ]

    found = find_pairs("d", [*files, "normal/alone.jpg"])

    assert [(pair.image, len(pair.masks)) for pair in found.pairs] == [("benign/b (1).png", 2), ("normal/n.jpg", 1)]
    assert found.without_mask == ("normal/alone.jpg",)


def test_masks_in_the_folder_of_the_images_are_told_by_their_mark() -> None:
    found = find_pairs("d", ["images/0.png", "images/0_mask.png", "index.csv"])

    assert found.pairs == (Pair("images/0.png", ("images/0_mask.png",)),)


JUNK = ["._0.png", "Thumbs.db", ".DS_Store", "desktop.ini", "@eaDir/0.png", ".hidden/0.png"]


def test_junk_of_operating_systems_is_passed_over_without_a_word() -> None:
    files = [f"{folder}/{name}" for folder in ("images", "masks") for name in ("0.png", *JUNK)]

    found = find_pairs("d", [*files, "__MACOSX/images/._0.png"])

    assert found.pairs == (Pair("images/0.png", ("masks/0.png",)),)
    assert (found.without_mask, found.without_image, found.ignored) == ((), (), ())


def test_what_is_left_over_is_named() -> None:
    found = find_pairs("d", ["images/0.png", "images/1.png", "masks/0.png", "masks/2.png", "masks/0.json", "index.csv"])

    assert found.without_mask == ("images/1.png",)
    assert found.without_image == ("masks/2.png",)
    assert found.ignored == ("masks/0.json",)


@pytest.mark.parametrize(
    "masks",
    [
        ["masks/0.png", "masks/0.tif"],
        ["masks/0.png", "masks/0_mask.png"],
        ["masks/0_mask.png", "masks/0_seg.png"],
        ["masks/0_mask.png", "masks/0_mask.tif"],
        ["masks/0.png", "masks/0/1.png"],
        ["masks/0_mask.png", "masks/mask_0.png"],
        ["masks/0_mask1.png", "masks/0_mask1.bmp"],
    ],
    ids=" ".join,
)
def test_two_masks_of_one_image_are_refused_naming_both_and_the_advice_joins_them(masks: list[str]) -> None:
    masks = [mask.replace(".bmp", ".jpg") for mask in masks]
    with pytest.raises(DatasetError) as caught:
        find_pairs("d", ["images/0.png", *masks])

    message = str(caught.value)
    assert all(name in message for name in ("images/0.png", *masks))
    advised = re.findall(r"0_mask\d\.png", message.partition("Fix: ")[2])
    joined = find_pairs("d", ["images/0.png", *(f"masks/{name}" for name in advised)])
    assert [len(pair.masks) for pair in joined.pairs] == [2]


def test_one_mask_for_two_images_is_refused_and_names_with_suffix_tell_them_apart() -> None:
    with pytest.raises(DatasetError, match=r"images/0\.jpg and images/0\.png for the one mask masks/0\.tif"):
        find_pairs("d", ["images/0.jpg", "images/0.png", "masks/0.tif"])

    found = find_pairs("d", ["images/0.jpg", "images/0.png", "masks/0.jpg.png", "masks/0.png"])
    assert [pair.masks for pair in found.pairs] == [("masks/0.jpg.png",), ("masks/0.png",)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["cats/0.png", "dogs/0.png"], "found no folder images .*folders cats, dogs.*Fix: put the images into images/"),
        (["images/0.png"], "found no folder masks .*Fix: put the mask of each image"),
        (["images/0.png", "masks/0.npy"], r"masks/0\.npy, which are not images.*Fix: put .* as a PNG"),
        (["images/0.png", "masks/0.png", "gt/0.png"], "folders masks and gt, expected one of them. Fix: rename"),
        (["images/0.png", "img/0.png", "masks/0.png"], "folders images and img, expected one of them. Fix: rename"),
        (
            ["train/images/0.png", "train/masks/0.png", "test/images/1.png", "test/masks/1.png"],
            "found train, test, each with images and masks.*Fix: give d/train",
        ),
        (
            [f"{part}/{kind}/{n}.png" for part in ("train", "val") for kind in ("images", "masks") for n in "01"],
            "found train, val, each with images and masks.*Fix: give d/train",
        ),
    ],
    ids=["classes", "no masks", "NumPy masks", "two folders of masks", "two folders of images", "small parts", "parts"],
)
def test_another_layout_is_refused_with_a_fix(files: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        find_pairs("d", files)


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        (["images/0.png", "masks/0.png"], ""),
        (["set/images/0.png", "set/masks/0.png", "set/index.csv", "__MACOSX/set/._index.csv"], "set/"),
        (["archive/a b/images/0.png", "archive/a b/masks/0.png"], "archive/a b/"),
        (["images/0.png"], ""),
        (["set/0.png", "set/0_mask.png"], "set/"),
        (["set/images/0.png", "README.md"], ""),
        ([], ""),
    ],
    ids=["none", "one", "two", "images alone", "side by side", "a file outside", "nothing"],
)
def test_folders_that_hold_everything_are_found(files: list[str], folder: str) -> None:
    assert wrapping_folder(files) == folder
