"""Masks that look odd are noted with their number, and all that are wrong are named at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.folder import read_mask_folder
from lensmount_adapters.masks.report import check_masks

OBJECT = np.zeros((16, 20), np.uint8)
OBJECT[5:11, 6:15] = 255


def draw(root: Path, masks: dict[str, np.ndarray]) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name, values in masks.items():
        Image.fromarray(np.full((16, 20, 3), 90, np.uint8)).save(root / "images" / f"{Path(name).stem}.png")
        Image.fromarray(values).save(root / "masks" / name, quality=60)
    return root


def notes_on(root: Path, labels: tuple[str, ...] = ("cell",)) -> tuple[str, ...]:
    return check_masks(read_mask_folder(root, labels))


def test_good_masks_need_no_note(tmp_path: Path) -> None:
    assert notes_on(draw(tmp_path / "d", {"0.png": OBJECT, "1.png": OBJECT.T.reshape(16, 20)})) == ()


def test_blank_full_inverted_and_divided_masks_are_noted_with_their_number(tmp_path: Path) -> None:
    masks = {"0.png": OBJECT, "1.png": OBJECT * 0, "2.png": OBJECT * 0, "3.png": OBJECT | 255, "4.png": 255 - OBJECT}

    blank, full, inverted, divided = notes_on(draw(tmp_path / "d", masks | {"5.jpg": OBJECT}))

    assert blank == "2 of 6 mask(s) are blank: no pixel is an object (masks/1.png, masks/2.png)"
    assert full.startswith("1 of 6 mask(s) have no background")
    assert full.endswith("(masks/3.png)")
    assert inverted.startswith("1 of 6 mask(s) look inverted")
    assert inverted.endswith("(masks/4.png)")
    assert divided.startswith("1 of 6 mask(s) have values between")
    assert divided.endswith("(masks/5.jpg)")


def test_the_advice_for_an_inverted_mask_gives_one_without_a_note(tmp_path: Path) -> None:
    assert "save 255 minus each value" in notes_on(draw(tmp_path / "a", {"0.png": 255 - OBJECT}))[0]

    assert notes_on(draw(tmp_path / "b", {"0.png": 255 - (255 - OBJECT)})) == ()


def test_a_label_without_a_pixel_is_noted(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", {"0.png": OBJECT // 255})

    assert notes_on(root, ("cell", "dust")) == ("no mask has a pixel of the label dust (value 2)",)


def test_all_masks_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    root = draw(
        tmp_path / "d", {"0.png": OBJECT, "1.png": OBJECT[1:], "2.png": np.stack([OBJECT, OBJECT // 2, OBJECT], -1)}
    )

    with pytest.raises(DatasetError, match=r"2 of 3 masks cannot be used:\n  masks/1\.png: .*\n  masks/2\.png: "):
        notes_on(root)
    Image.fromarray(OBJECT[1:]).save(root / "masks" / "2.png")
    with pytest.raises(
        DatasetError, match=r"2 of 3 masks cannot be used:\n  masks/1\.png, masks/2\.png: found 20 x 15"
    ):
        notes_on(root)
    (root / "masks" / "2.png").unlink()
    (root / "images" / "2.png").unlink()
    with pytest.raises(DatasetError, match=r"^masks/1\.png: found 20 x 15 .*20 x 16"):
        notes_on(root)


@pytest.mark.parametrize("background", [1, 2], ids=str)
def test_masks_without_any_background_are_refused_and_the_advice_works(background: int, tmp_path: Path) -> None:
    values = np.where(OBJECT > 0, 3 - background, background).astype(np.uint8)
    with pytest.raises(
        DatasetError, match=r"no background in any of 2 masks.*Fix: if the values are numbers of labels"
    ):
        notes_on(draw(tmp_path / "a", {"0.png": values, "1.png": values}))

    assert notes_on(tmp_path / "a", ("one", "two"))[0].startswith("2 of 2 mask(s) have no background")
    assert notes_on(draw(tmp_path / "b", {"0.png": np.where(values == background, 0, values).astype(np.uint8)})) == ()


def test_masks_without_any_object_are_refused_and_the_advice_works(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no object in any of 1 masks.*Fix: export the masks again as PNG"):
        notes_on(draw(tmp_path / "a", {"0.jpg": OBJECT // 255}))  # 0 and 1 in a JPEG

    assert notes_on(draw(tmp_path / "b", {"0.png": OBJECT})) == ()
