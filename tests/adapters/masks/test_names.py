"""A mask finds its image by its name; names that only resemble it are not taken."""

from __future__ import annotations

import pytest

from lensmount_adapters.masks.names import Form, Names, are_parts, marked, no_masks, stem_of, unmarked

IMAGES = {
    "plain": "0.png",
    "Cityscapes": "ulm/ulm_0_leftImg8bit.png",
    "DRIVE": "21_training.tif",
    "CamVid": "0001TP_006690.png",
    "counter": "img_12.jpg",
    "left eye": "eye_L.png",
    "eye": "eye.png",
}


@pytest.mark.parametrize(
    ("mask", "image"),
    [
        ("0.png", "plain"),
        ("0_manual1.gif", "plain"),
        ("0_anno.bmp", "plain"),
        ("0_MASK.PNG", "plain"),
        ("ulm/ulm_0_gtFine_labelIds.png", "Cityscapes"),
        ("21_manual1.gif", "DRIVE"),
        ("21_training_mask.gif", "DRIVE"),
        ("0001TP_006690_L.png", "CamVid"),
        ("mask_12.png", "counter"),
        ("12.png", "counter"),
        ("eye_L.png", "left eye"),
        ("eye_L_mask.png", "left eye"),
        ("eye.png", "eye"),
        ("1.png", None),
        ("00_disc.png", None),
        ("ulm/ulm_1_gtFine_labelIds.png", None),
        ("120.png", None),
    ],
)
def test_a_mask_is_matched_with_its_image(mask: str, image: str | None) -> None:
    found, _ = Names(IMAGES).match(mask)

    assert found == ([] if image is None else [image])


def test_numbered_files_are_parts_and_two_readers_are_not() -> None:
    table = Names({"image": "01.png"})

    assert are_parts([table.match(name)[1] for name in ("01_mask1.png", "01_mask2.png")])
    assert not are_parts([table.match(name)[1] for name in ("01_manual1.png", "01_manual2.png")])
    assert not are_parts([Form(), Form()])


def test_masks_next_to_their_images_need_a_mark_of_more_than_one_letter() -> None:
    files = ["a.png", "a_mask.png", "b.png", "b_L.png", "c_seg.png"]

    assert marked(files) == ["a_mask.png"]
    assert ("a", Form("mask", "2")) in unmarked("a_mask2")
    assert stem_of("a.jpg.png") == "a.jpg"


def test_colours_and_second_readers_are_no_masks_beside_the_mask_itself() -> None:
    files = ["x_leftImg8bit.png", "x_gtFine_labelIds.png", "x_gtFine_color.png", "x_gtFine_labelTrainIds.png"]

    assert no_masks(files) == ["x_gtFine_color.png", "x_gtFine_labelTrainIds.png"]
    assert no_masks(["x_leftImg8bit.png", "x_gtFine_color.png"]) == []
    assert no_masks(["E_1stHO.png", "E_2ndHO.png", "F_2ndHO.png"]) == ["E_2ndHO.png"]
