"""The size, number format, name and file of an adapter that is made without training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lensmount_adapters.changes.budget import Energy, MaxBytes, SameRank
from lensmount_adapters.cli.made_adapter import budget_of, checked, dtype_of, file_to_write
from lensmount_adapters.errors import TrainingError


def test_one_budget_or_none_is_given() -> None:
    assert budget_of(None, None, None) is None
    assert budget_of(4, None, None) == SameRank(4)
    assert budget_of(None, 0.9, None) == Energy(0.9)
    assert budget_of(None, None, 9) == MaxBytes(9)
    with pytest.raises(TrainingError, match=r"found --rank and --max-bytes, .* Fix: keep --rank alone"):
        budget_of(4, None, 9)


def test_number_formats_are_those_of_adapter_files() -> None:
    assert dtype_of("bfloat16") is torch.bfloat16
    with pytest.raises(TrainingError, match=r"expected float32, bfloat16, float16\. Fix: --file-dtype float16"):
        dtype_of("float64")


def test_a_name_that_an_adapter_cannot_have_is_refused() -> None:
    assert checked("my-adapter_1.0") == "my-adapter_1.0"
    with pytest.raises(TrainingError, match="Fix: --name my-adapter"):
        checked("My Adapter")


def test_a_file_that_is_read_is_never_the_one_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").touch()
    Path("link.safetensors").symlink_to("a.safetensors")

    assert file_to_write("b", None, [Path("a.safetensors")]) == Path("b.safetensors")
    for out in (None, Path("link.safetensors"), tmp_path / "a.safetensors"):
        with pytest.raises(TrainingError, match=r"Fix: --out a-new\.safetensors"):
            file_to_write("a", out, [Path("a.safetensors")])
    assert file_to_write("a", Path("a-new.safetensors"), [Path("a.safetensors")]) == Path("a-new.safetensors")
    with pytest.raises(TrainingError, match="found no folder no/where"):
        file_to_write("a", Path("no/where/a.safetensors"), [])
