"""An adapter file is exported without a server, on the backbone that its record names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from lensmount_adapters import load_backbone
from lensmount_adapters.cli.export import export_file


@pytest.fixture
def file(draw_adapter: Any, tmp_path: Path) -> Path:
    parts = draw_adapter(load_backbone("test_resnet", "random:0"), "lora")
    parts.manifest["training"] = {"weights": "random:0"}
    path = tmp_path / "pets.safetensors"
    path.write_bytes(parts.dump())
    return path


def test_the_files_are_written_and_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    document = export_file(file, "peft", None, None, False)

    assert document["path"] == "pets-peft"
    assert document["files"] == ["README.md", "adapter_config.json", "adapter_model.safetensors", "lensmount.json"]
    assert sorted(path.name for path in (tmp_path / "pets-peft").iterdir()) == document["files"]


@pytest.mark.parametrize(
    ("to", "weights", "line"),
    [
        ("pefd", None, "found the format 'pefd', expected peft"),
        ("peft", "random:1", "found an adapter for test_resnet"),
        ("peft", "missing.safetensors", "found no weights file"),
    ],
)
def test_an_error_is_one_line(
    to: str, weights: str | None, line: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        export_file(file, to, tmp_path / "out", weights, False)

    assert capsys.readouterr().err.startswith(f"Error: {line}")
    assert not (tmp_path / "out").exists()
