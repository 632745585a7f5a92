"""Lists of Pascal VOC choose the images and state the parts of the split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.folder import read_mask_folder
from lensmount_adapters.masks.lists import lists_of, read_lists

FOLDER = "ImageSets/Segmentation"


def voc(root: Path, lists: dict[str, str], images: int = 5, masks: int = 4) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", FOLDER):
        (root / folder).mkdir(parents=True)
    for number in range(images):
        Image.new("RGB", (8, 6), (40 * number, 0, 0)).save(root / "JPEGImages" / f"2007_{number}.jpg")
    for number in range(masks):
        image = Image.fromarray(np.array([[0, 15], [1, 0]], np.uint8)).resize((8, 6), Image.Resampling.NEAREST)
        image.putpalette([0, 0, 0, 128, 0, 0])
        image.save(root / "SegmentationClass" / f"2007_{number}.png")
    for name, text in lists.items():
        (root / FOLDER / name).write_text(text)
    return root


def parts_of(root: Path) -> dict[str, str | None]:
    return {sample.image[-5]: sample.part for sample in read_mask_folder(root, ("object",)).samples}


def test_only_images_of_the_lists_are_used_with_their_parts(tmp_path: Path) -> None:
    lists = {"train.txt": "2007_0\n2007_1\n", "val.txt": "2007_2\n", "trainval.txt": "2007_0\r\n2007_1\r\n2007_2\r\n"}
    root = voc(tmp_path / "VOC2012", lists)

    assert parts_of(root) == {"0": "train", "1": "train", "2": "validation"}
    notes = read_mask_folder(root, ("object",)).notes
    assert any(note.startswith("2 image(s) are in none of ImageSets") for note in notes)
    assert "The parts of the split are taken as stated (train: 2, validation: 1)" in notes


def test_a_test_part_without_masks_is_left_out_and_a_training_image_without_one_is_refused(tmp_path: Path) -> None:
    lists = {"train.txt": "2007_0\n2007_1\n", "test.txt": "2007_4\n"}

    assert parts_of(voc(tmp_path / "a", lists)) == {"0": None, "1": None}
    with pytest.raises(DatasetError, match=r"no mask for 2007_4\.jpg"):
        parts_of(voc(tmp_path / "b", {"train.txt": "2007_0\n2007_4\n"}))


def test_the_list_of_cvat_states_no_part(tmp_path: Path) -> None:
    assert parts_of(
        voc(tmp_path / "d", {"default.txt": "2007_0\n2007_1.jpg\nJPEGImages\\2007_3.jpg\n"})
    ) == dict.fromkeys("013")


def test_a_list_that_cannot_be_followed_is_refused_with_a_fix_that_works(tmp_path: Path) -> None:
    twice = voc(tmp_path / "twice", {"train.txt": "2007_0\n2007_1\n", "val.txt": "2007_1\n2007_2\n"})
    with pytest.raises(DatasetError, match=r"val\.txt, row 1: found .*2007_1\.jpg, .*Fix: remove it from one"):
        parts_of(twice)
    (twice / FOLDER / "val.txt").write_text("2007_2\n")
    assert parts_of(twice)["2"] == "validation"
    strange = voc(tmp_path / "strange", {"train.txt": "aeroplane\n"})
    with pytest.raises(DatasetError, match=r"none of the 5 images, such as aeroplane.*or remove them"):
        parts_of(strange)
    (strange / FOLDER / "train.txt").unlink()
    (strange / "JPEGImages" / "2007_4.jpg").unlink()
    assert len(parts_of(strange)) == 4


def test_lists_are_found_in_their_folder_only() -> None:
    assert lists_of([f"{FOLDER}/train.txt", "train.txt", "ImageSets/Main/train.txt"]) == [f"{FOLDER}/train.txt"]
    with pytest.raises(DatasetError, match=r"row 1: found 'a', which names x/a\.png and y/a\.png"):
        read_lists("d", ["train.txt"], lambda _: b"a\n", ["x/a.png", "y/a.png"])
