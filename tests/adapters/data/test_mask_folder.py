"""Folders of images with masks: values become one mask per label, and a mask that does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.data.mask_folder import MaskFolder, read_mask_folder
from lensmount_adapters.errors import DatasetError

VALUES = np.array([[0, 1, 2], [2, 0, 1]], np.uint8)  # [height, width]


def draw(root: Path, *masks: np.ndarray) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, values in enumerate(masks):
        Image.fromarray(np.full((2, 3, 3), 40 * number, np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(values).save(root / "masks" / f"{number}.png")
    return root


def masks_of(folder: MaskFolder) -> np.ndarray:
    return folder.masks(folder.samples[0], folder.image(folder.samples[0]).size)


def test_with_several_labels_each_value_is_one_label(tmp_path: Path) -> None:
    folder = read_mask_folder(draw(tmp_path / "d", VALUES), ("cell", "dust"))

    assert masks_of(folder).tolist() == [
        [[False, True, False], [False, False, True]],
        [[False, False, True], [True, False, False]],
    ]


def test_with_one_label_every_value_above_zero_is_that_label(tmp_path: Path) -> None:
    folder = read_mask_folder(draw(tmp_path / "d", VALUES * 100), ("cell",))

    assert masks_of(folder).tolist() == [[[False, True, True], [True, False, True]]]


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (VALUES + 1, ("cell", "dust"), "found the value 3, expected at most 2"),
        (VALUES.T, ("cell",), "found 2 x 3 with 1 channel.*expected one channel of 3 x 2"),
        (np.zeros((2, 3, 3), np.uint8), ("cell",), "found 3 x 2 with 3 channel"),
    ],
    ids=["a value without a label", "another size", "colour"],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(
    values: np.ndarray, labels: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    folder = read_mask_folder(draw(tmp_path / "d", values), labels)

    with pytest.raises(DatasetError, match=rf"masks/0\.png: {message}"):
        masks_of(folder)


def test_the_index_selects_images_by_a_column(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES, VALUES, VALUES)
    (root / "index.csv").write_text("file,kind\n0.png,red\n1.png,blue\n2.png,red\n")

    folder = read_mask_folder(root, ("cell",), "kind=red")

    assert [sample.image for sample in folder.samples] == ["images/0.png", "images/2.png"]
    with pytest.raises(DatasetError, match="expected COLUMN=VALUE"):
        read_mask_folder(root, ("cell",), "red")


def test_the_digest_changes_with_an_image_and_with_a_mask(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES)
    digests = {read_mask_folder(root, ("cell",)).digest}
    for path in ("images/0.png", "masks/0.png"):
        (root / path).write_bytes((root / path).read_bytes() + b"\0")
        digests.add(read_mask_folder(root, ("cell",)).digest)

    assert len(digests) == 3
