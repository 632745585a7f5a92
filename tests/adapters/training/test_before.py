"""Which earlier files can be compared; test_run_report.py compares trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from lensmount_adapters.adapter.file import write_adapter
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.training.before import version_before

if TYPE_CHECKING:
    from pathlib import Path

    from tests.adapters.conftest import DrawJudged, DrawManifest


def test_a_file_for_volumes_is_not_compared_with_one_for_images(
    draw_manifest: DrawManifest, draw_judged: DrawJudged, tmp_path: Path
) -> None:
    labels: list[str] = ["oak", "elm"]
    nothing: Any = None
    volumes = {"kind": "volume", "depth": 4, "size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    old = draw_manifest(labels, preprocessing=volumes, modules={}, method="head")
    write_adapter(tmp_path / "old.safetensors", old, {"head.weight": torch.zeros(2, 4), "head.bias": torch.zeros(2)})

    with pytest.raises(DatasetError, match=r"found an input of .*, expected one like that of trees, 32 x 32.* Fix: "):
        version_before(
            tmp_path / "old.safetensors",
            "test",
            draw_judged(labels),
            draw_manifest(labels),
            nothing,
            nothing,
        )
