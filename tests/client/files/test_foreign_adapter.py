"""Adapters of other tools, packed for the server."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from lensmount_client import InvalidInput
from lensmount_client._files.foreign_adapter import foreign_name, packed


def entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "oaks"
    path.mkdir()
    (path / "adapter_config.json").write_text("{}")
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    (path / "README.md").write_text("a card")
    (path / "optimizer.pt").write_bytes(b"large")
    return path


BOTH = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


@pytest.mark.parametrize("file", ["", "adapter_model.safetensors", "adapter_config.json"])
def test_a_folder_and_each_of_its_two_files_give_both_and_nothing_else(file: str, folder: Path) -> None:
    assert entries(packed(folder / file)) == BOTH
    assert foreign_name(folder / file) == "oaks"


def test_the_older_format_is_taken_if_there_is_no_other(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"old")
    assert "adapter_model.bin" not in entries(packed(folder))

    (folder / "adapter_model.safetensors").unlink()
    assert entries(packed(folder))["adapter_model.bin"] == b"old"


def test_labels_and_a_head_are_added(folder: Path, tmp_path: Path) -> None:
    head = tmp_path / "classifier.pth"
    head.write_bytes(b"head")

    found = entries(packed(folder, ["oak", "ä, b"], head))

    assert json.loads(found.pop("labels.json")) == ["oak", "ä, b"]
    assert found.pop("head.pth") == b"head"
    assert found == BOTH


def test_a_head_and_labels_in_the_folder_go_along(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(b"head")
    (folder / "labels.json").write_text("[]")

    assert set(entries(packed(folder))) == {*BOTH, "head.safetensors", "labels.json"}


@pytest.mark.parametrize("name", ["style.safetensors", "style.bin", "style"])
def test_one_file_is_packed_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"weights")

    assert list(entries(packed(path)).values()) == [b"weights"]
    assert foreign_name(path) == "style"


def test_a_zip_file_goes_as_it_is_or_with_labels_in_it(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "oaks.zip"
    path.write_bytes(packed(folder))

    assert packed(path) == path.read_bytes()
    assert entries(packed(path, ["a"])) == BOTH | {"labels.json": b'["a"]'}


def test_a_damaged_zip_file_is_refused_where_it_must_be_read(tmp_path: Path) -> None:
    path = tmp_path / "oaks.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(30))

    with pytest.raises(InvalidInput, match=r"damaged zip file .*Fix: pack it again"):
        packed(path, ["a"])


def test_a_folder_without_weights_names_the_folder_below_that_has_them(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"found no weights.*Fix: import .*oaks"):
        packed(folder.parent)
    assert entries(packed(folder.parent / "oaks")) == BOTH

    (folder / "adapter_model.safetensors").unlink()
    (folder / "optimizer.pt").unlink()
    with pytest.raises(InvalidInput, match=r"expected adapter_model\.safetensors"):
        packed(folder)
    with pytest.raises(InvalidInput, match="no such file"):
        packed(folder / "nothing.safetensors")
