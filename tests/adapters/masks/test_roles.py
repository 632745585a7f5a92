"""The names of folders state images, masks and parts of the split."""

from __future__ import annotations

import pytest

from lensmount_adapters.masks.roles import left_out, meaning_of, place_of


@pytest.mark.parametrize(
    ("folder", "role", "part"),
    [
        ("images", "image", None),
        ("JPEGImages", "image", None),
        ("Ground Truth", "mask", None),
        ("1st_manual", "mask", None),
        ("SegmentationClass", "mask", None),
        ("train", None, "train"),
        ("labelsTr", "mask", "train"),
        ("img_dir", "image", None),
        ("val2017", None, "validation"),
        ("stage1_train", None, "train"),
        ("Test_v2", None, "test"),
        ("train_labels", "mask", "train"),
        ("valannot", "mask", "validation"),
        ("images_test", "image", "test"),
        ("ISIC2018_Task1-2_Training_Input", "image", "train"),
        ("ISIC-2017_Test_v2_Part1_GroundTruth", "mask", "test"),
        ("ISIC2018_Task1_Training_Ground_Truth", "mask", "train"),
        ("stuffthingmaps_trainval2017", "mask", None),
        ("cell_segmentation", None, None),
        ("masks of july", None, None),
        ("test patient 7", None, None),
        ("ulm", None, None),
        ("7", None, None),
    ],
)
def test_the_name_of_a_folder_states_a_role_and_a_part(folder: str, role: str | None, part: str | None) -> None:
    assert meaning_of(folder) == (role, part)


@pytest.mark.parametrize(
    ("path", "root", "name"),
    [
        ("images/0.png", "", "0.png"),
        ("train/images/0.png", "", "train/0.png"),
        ("images/train/0.png", "", "train/0.png"),
        ("a/train/images/ulm/0.png", "a/", "train/ulm/0.png"),
        ("train_images/train_images/0.png", "", "train/0.png"),
        ("images/ulm/test/0.png", "", "ulm/test/0.png"),
        ("ulm/0.png", "", "ulm/0.png"),
    ],
)
def test_a_path_is_divided_into_root_part_and_name(path: str, root: str, name: str) -> None:
    place = place_of(path)

    assert (place.root, place.name) == (root, name)


def test_without_parts_their_folders_are_folders_like_others() -> None:
    place = place_of("images/train/0.png", parts=False)

    assert (place.part, place.name) == (None, "train/0.png")


def test_the_field_of_view_and_numbered_objects_are_left_out_beside_the_masks() -> None:
    assert left_out(["a/1st_manual", "a/mask", "a/2nd_manual"]) == {
        "a/mask": "a/1st_manual",
        "a/2nd_manual": "a/1st_manual",
    }
    assert left_out(["SegmentationClass", "SegmentationObject"]) == {"SegmentationObject": "SegmentationClass"}
    assert left_out(["masks"]) == left_out(["masks", "gt"]) == {}
