"""Shared by the tests of training: a small backbone, a drawn image folder and a config for a short run on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import Listener, Progress

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

SLIDES = r"^(.+_s\d+)_"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mobilenetv3_small_050", "random:0")


@pytest.fixture(scope="module")
def shapes(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=24, bar=24)


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        data=shapes,
        name="shapes",
        out=tmp_path / "shapes.safetensors",
        backbone="mobilenetv3_small_050",
        weights="random:0",
        epochs=4,
        batch_size=8,
        size=32,
        rank=4,
        learning_rate=1e-2,
        group_regex=SLIDES,
        validation_fraction=0.2,
        test_fraction=0.2,
        precision="fp32",
        threads=1,
    )


@pytest.fixture(scope="session")
def same_tensors() -> Callable[[Path, Path], bool]:
    """Whether two adapter files have the same tensors, bit for bit."""

    def same(one: Path, other: Path) -> bool:
        a, b = (dict(parse_adapter(path.read_bytes()).tensors) for path in (one, other))
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    return same


@pytest.fixture(scope="session")
def ctrl_c() -> Callable[[int], Listener]:
    """`ctrl_c(epoch=3)` is a listener that presses Ctrl-C in the middle of that epoch."""

    def in_epoch(epoch: int) -> Listener:
        def listener(progress: Progress) -> None:
            if progress.epoch == epoch and progress.step == 2:
                raise KeyboardInterrupt

        return listener

    return in_epoch
