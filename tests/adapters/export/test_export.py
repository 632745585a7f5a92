"""Export by the name of a format: a folder that appears complete or not at all, or a zip of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.export import TARGETS, export_adapter, export_zip


@pytest.fixture
def backbone(small: Any) -> Backbone:
    made: Backbone = small("test_resnet")
    return made


@pytest.fixture
def adapter(backbone: Backbone, draw_on: Any) -> Adapter:
    drawn: Adapter = draw_on(backbone, "lora")
    return drawn


@pytest.mark.parametrize("to", ["peft", "lycoris", "timm"])
def test_the_folder_has_the_files_that_are_listed(
    to: str, adapter: Adapter, backbone: Backbone, tmp_path: Path
) -> None:
    exported = export_adapter(adapter, backbone, to, tmp_path / "new" / "out")

    assert exported.files == tuple(sorted(path.name for path in (tmp_path / "new" / "out").iterdir()))
    assert {"README.md", "lensmount.json"} < set(exported.files)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_a_refusal_leaves_nothing_behind(backbone: Backbone, draw_on: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        export_adapter(draw_on(backbone, "norm"), backbone, "lycoris", tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_not_touched(adapter: Adapter, backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(ExportError, match="found files there, expected a new or empty folder"):
        export_adapter(adapter, backbone, "timm", tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_format_is_answered_with_those_that_exist(
    adapter: Adapter, backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"'lycros', expected peft, lycoris, .*Did you mean 'lycoris'\?"):
        export_adapter(adapter, backbone, "lycros", tmp_path / "out")


def test_the_zip_has_the_same_files_and_the_same_bytes_each_time(
    adapter: Adapter, backbone: Backbone, tmp_path: Path
) -> None:
    exported = export_adapter(adapter, backbone, "peft", tmp_path / "out")

    export_zip(adapter, backbone, "peft", tmp_path / "one.zip")
    export_zip(adapter, backbone, "peft", tmp_path / "two.zip")

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: (tmp_path / "out" / name).read_bytes() for name in exported.files
        }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zip", "out", "two.zip"]


def test_every_format_is_listed_by_its_own_name() -> None:
    assert {name: target.name for name, target in TARGETS.items()} == {name: name for name in TARGETS}
