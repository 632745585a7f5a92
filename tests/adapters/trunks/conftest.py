"""One small backbone whose trunk is quantised once, because that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.graph.segments import Halves, Segments
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.trunks.int8 import Int8Trunks


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """Its rule has 64 instead of 176 pixels, so that its ranges are measured quickly."""
    backbone = load_backbone("resnet10t", "random:0")
    backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (64, 64)})
    return backbone


@pytest.fixture(scope="session")
def halves(backbone: Backbone) -> Halves:
    """Cut before layer4."""
    return Segments(backbone.module).halves(["layer4.0.conv1.weight"])


@pytest.fixture(scope="session")
def float32() -> Executor:
    pytest.importorskip("nncf")
    openvino = pytest.importorskip("lensmount_adapters.programs.openvino")
    executor: Executor = openvino.OpenVino()
    return executor


@pytest.fixture(scope="session")
def folder(backbone: Backbone, halves: Halves, float32: Executor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the int8 trunk. Never write to it: `copied` gives a copy."""
    folder = tmp_path_factory.mktemp("int8")
    Int8Trunks(folder=folder).of(backbone, halves, float32)
    return folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Callable[[], tuple[Path, Path]]:
    """`copied()`: a new folder with a copy of what was kept, and that file."""

    def copy() -> tuple[Path, Path]:
        (kept,) = folder.iterdir()
        file = tmp_path / kept.name
        file.write_bytes(kept.read_bytes())
        return tmp_path, file

    return copy
