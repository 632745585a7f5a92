"""Calibration images are the same on every machine, and their digest changes with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.trunks.calibration import DRAWN, FROM_FOLDER, drawn_calibration, folder_calibration

RULE = Preprocessing(size=(32, 48), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))


def draw(folder: Path, count: int) -> Path:
    for number in range(count):
        Image.new("RGB", (20, 20), (number, 100, 200)).save(folder / f"{number:04}.png")
    return folder


def test_drawn_images_are_normalised_reach_both_ends_and_never_change() -> None:
    first, second = (drawn_calibration().images(RULE) for _ in range(2))
    assert len(first) == DRAWN
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert {(x.shape, x.dtype) for x in first} == {((1, 3, 32, 48), np.dtype(np.float32))}
    pixels = np.stack(first)[:, 0] * np.array(RULE.std)[:, None, None] + np.array(RULE.mean)[:, None, None]
    assert -1e-6 < pixels.min() < 0.01
    assert 0.99 < pixels.max() < 1 + 1e-6


def test_images_of_a_folder_are_read_as_an_adapter_reads_them(tmp_path: Path) -> None:
    calibration = folder_calibration(draw(tmp_path, 3))
    found = calibration.images(RULE)
    assert len(found) == 3
    expected = (np.array([2, 100, 200]) / 255 - RULE.mean) / RULE.std
    assert np.allclose(found[2][0, :, 5, 5], expected, atol=1e-6)


def test_the_digest_is_that_of_the_bytes_and_not_of_names(tmp_path: Path) -> None:
    digest = folder_calibration(draw(tmp_path, 3)).digest
    (tmp_path / "0002.png").rename(tmp_path / "0009.png")
    assert folder_calibration(tmp_path).digest == digest
    Image.new("RGB", (20, 20)).save(tmp_path / "0009.png")
    assert folder_calibration(tmp_path).digest not in (digest, drawn_calibration().digest)


def test_of_many_images_some_are_taken_evenly(tmp_path: Path) -> None:
    found = folder_calibration(draw(tmp_path, FROM_FOLDER + 1)).images(RULE)
    assert len(found) == 101


def test_a_folder_without_images_or_with_a_damaged_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found no images"):
        folder_calibration(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"a\.png"):
        folder_calibration(tmp_path).images(RULE)
