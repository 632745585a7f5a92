"""Folders, zip files and single files that users bring to import."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save, save_file
from tests.adapters.foreign.foreign_files import CONFIG, FILES, LORA, torch_file, zipped
from tests.adapters.foreign.peft_networks import LINEAR, saved, trained

from lensmount_adapters.errors import AdapterError, AdapterInvalid, AdapterTooLarge, AdapterUnsupported, DatasetError
from lensmount_adapters.foreign.source import read_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapter")
    trained(peft.LoraConfig(r=2, target_modules=LINEAR, modules_to_save=["fc"]), path)
    return path


def _zip(folder: Path, target: Path, below: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{below}{path.name}")
    return target


def _as_bin(folder: Path, target: Path) -> Path:
    """What PEFT wrote before safetensors."""
    target.mkdir()
    torch.save(saved(folder)[0], target / "adapter_model.bin")
    (target / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    return target


WAYS: dict[str, Callable[[Path, Path], Path | bytes]] = {
    "the folder": lambda folder, _: folder,
    "the file next to its config": lambda folder, _: folder / "adapter_model.safetensors",
    "a zip file": lambda folder, temp: _zip(folder, temp / "a.zip"),
    "the bytes of a zip file": lambda folder, temp: _zip(folder, temp / "a.zip").read_bytes(),
    "a zip file with a folder": lambda folder, temp: _zip(folder, temp / "a.zip", "oak/"),
    "a .bin": lambda folder, temp: _as_bin(folder, temp / "bin"),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_of_peft_is_the_same_however_it_is_brought(way: str, folder: Path, tmp_path: Path) -> None:
    tensors, config = saved(folder)

    source = read_source(WAYS[way](folder, tmp_path))

    assert source.tool == "peft"
    assert source.config == config
    assert source.tensors.keys() == tensors.keys()
    assert source.digest.startswith("sha256:")


def test_files_that_macos_adds_to_a_zip_file_are_passed_over(folder: Path, tmp_path: Path) -> None:
    path = _zip(folder, tmp_path / "a.zip", "oak/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/oak/._adapter_config.json", b"\0")
        archive.writestr("oak/._adapter_model.safetensors", b"\0")

    assert read_source(path).tool == "peft"


def test_the_adapter_at_the_top_is_taken_and_those_below_are_said(folder: Path, tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
        (tmp_path / "oak").mkdir(exist_ok=True)
        (tmp_path / "oak" / name).write_bytes((folder / name).read_bytes())

    assert read_source(tmp_path).notes == ("left out the adapter in oak: import it by its own folder",)
    assert read_source(tmp_path / "oak").notes == ()

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).unlink()
    assert read_source(tmp_path).tool == "peft"  # the only one


def test_several_adapters_side_by_side_are_refused_with_their_folders() -> None:
    data = zipped(
        oak__adapter_config_dot_json=CONFIG,
        elm__adapter_config_dot_json=CONFIG,
        oak__adapter_model_dot_safetensors=LORA,
        elm__adapter_model_dot_safetensors=LORA,
    )

    with pytest.raises(AdapterUnsupported, match=r"found 2 adapters \(elm, oak\).*import FOLDER/elm"):
        read_source(data)


def test_a_head_next_to_the_adapter_is_read(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file({"weight": torch.ones(3, 8)}, tmp_path / "head.safetensors")

    assert read_source(tmp_path).head["weight"].shape == (3, 8)


def test_a_file_of_lycoris_is_read_by_itself_or_in_a_folder(tmp_path: Path) -> None:
    data = save({"lycoris_up.lora_up.weight": torch.ones(16, 2), "lycoris_up.lora_down.weight": torch.ones(2, 12)})
    (tmp_path / "oak.safetensors").write_bytes(data)

    assert read_source(data).tool == "lycoris"
    assert read_source(tmp_path).tool == "lycoris"
    assert read_source(torch_file({"lycoris_up.lora_up.weight": torch.ones(16, 2)})).tool == "lycoris"


def test_an_adapter_of_peft_without_its_config_is_refused_and_the_advice_works(folder: Path, tmp_path: Path) -> None:
    data = (folder / "adapter_model.safetensors").read_bytes()

    with pytest.raises(AdapterUnsupported, match=r"without adapter_config.json.*or send both in a zip file"):
        read_source(data)

    assert read_source(_zip(folder, tmp_path / "both.zip").read_bytes()).tool == "peft"


REFUSED = [kind for kind in FILES if not kind.startswith(("PEFT's folder", "kohya", "LyCORIS"))]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_adapter_is_refused_for_what_it_is(kind: str) -> None:
    with pytest.raises((AdapterError, DatasetError), match=r"found .*Fix: "):
        read_source(FILES[kind][0]())


TWICE = b'{"peft_type": "LORA", "peft_type": "LOHA"}'
BROKEN_CONFIGS = [b"", b"{", b"[]", b"{}", b'{"peft_type": 3}', TWICE, b"\xff\xfe{}"]


@pytest.mark.parametrize("config", BROKEN_CONFIGS)
def test_a_broken_config_is_refused(config: bytes) -> None:
    with pytest.raises(AdapterInvalid, match=r"adapter_config.json: found no .*Fix: "):
        read_source(zipped(adapter_config_dot_json=config, adapter_model_dot_safetensors=LORA))


def test_limits_are_checked_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterTooLarge, match="expected at most 100"):
        read_source(folder, max_bytes=100)
    with pytest.raises(AdapterTooLarge, match="expected at most 10"):
        read_source(LORA, max_bytes=10)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_config.json", CONFIG)
        archive.writestr("adapter_model.safetensors", bytes(2**22))
    with pytest.raises(DatasetError, match=r"times its packed size|expected at most"):
        read_source(bomb, max_bytes=2**20)


def test_a_folder_without_weights_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes(CONFIG)
    with pytest.raises(AdapterUnsupported, match=r"expected adapter_model.safetensors"):
        read_source(tmp_path)
    with pytest.raises(AdapterUnsupported, match="found no such file"):
        read_source(tmp_path / "nothing")


def test_a_file_of_lensmount_is_sent_to_push() -> None:
    data = save({"head.weight": torch.ones(1)}, metadata={"lensmount": json.dumps({})})

    with pytest.raises(AdapterUnsupported, match="Fix: lensmount adapters push FILE"):
        read_source(data)
