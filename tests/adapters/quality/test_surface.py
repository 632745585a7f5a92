"""The surface of an image: its file, its border and its mean colour as numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.data.dataset import ImageFolder, read_folder
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.quality.surface import columns_of, surfaces_of


def folder_with(root: Path, images: dict[str, Image.Image]) -> ImageFolder:
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return read_folder(root)


def test_colours_are_the_means_of_the_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    folder = folder_with(tmp_path, {"a/1.png": Image.fromarray(pixels), "b/2.png": Image.new("RGB", (64, 64), "red")})

    noise, red = surfaces_of(folder)

    np.testing.assert_allclose(noise.colour, pixels.reshape(-1, 3).mean(axis=0), atol=0.5)
    assert red.colour.tolist() == [255, 0, 0]
    assert red.sides.tolist() == [[255, 0, 0]] * 4


def test_all_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {f"{label}/{n}.png": Image.new("RGB", (40, 40)) for label in "ab" for n in range(3)})
    for path in ("a/1.png", "b/2.png"):
        (tmp_path / path).write_bytes(b"no image")

    with pytest.raises(DatasetError, match=r"(?s)2 of 6 images.*a/1\.png.*b/2\.png.*Fix: repair or remove"):
        surfaces_of(folder)


def test_a_coloured_side_is_in_the_columns_of_the_border_and_the_format_in_those_of_the_file(tmp_path: Path) -> None:
    plain = Image.new("RGB", (32, 32), (100, 100, 100))
    framed = plain.copy()
    framed.paste((200, 0, 0), (0, 0, 32, 4))
    folder = folder_with(tmp_path, {"a/1.png": plain, "b/2.jpg": framed})

    columns = columns_of(surfaces_of(folder))

    assert np.abs(columns["border"][0]).max() == 0
    assert columns["border"][1][0] > 50  # the red of the topmost pixels
    assert (np.ptp(columns["file"], axis=0) > 0).any()
