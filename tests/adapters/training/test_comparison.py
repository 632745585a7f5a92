"""Two ways to answer, compared on the same images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lensmount_adapters import Manifest
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.training.comparison import Images

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder


def test_accuracy_before_and_after_and_the_share_of_equal_answers(
    draw_folder: DrawFolder, draw_manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    images = Images.of(draw_folder(tmp_path / "shapes", disc=2, bar=2), draw_manifest(["disc", "bar"]))
    truth = torch.tensor([sample.label for sample in images.samples])
    right = torch.eye(2)[truth]
    mistaken = right.clone()
    mistaken[0] = 1 - mistaken[0]

    found = images.compare(right, mistaken)

    assert (found.images, found.before.accuracy, found.after.accuracy, found.same_answers) == (4, 1, 0.75, 0.75)
    assert found.logits_error == pytest.approx(2**0.5 / 2)
    assert found.to_json()["after"]["accuracy"] == 0.75


def test_folders_of_other_labels_are_refused(
    draw_folder: DrawFolder, draw_manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError):
        Images.of(draw_folder(tmp_path / "shapes", disc=2, bar=2), draw_manifest(["oak", "elm"]))


def test_masks_are_not_compared(draw_manifest: Callable[..., Manifest], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found an adapter that answers with masks"):
        Images.of(tmp_path, draw_manifest(["nucleus"], head={"kind": "segmentation"}))
