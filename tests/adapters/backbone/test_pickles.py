"""Files of torch.save: what is read, and what is refused without running it."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lensmount_adapters.backbone.pickles import load_pickle
from lensmount_adapters.errors import AdapterMalformed, AdapterTooLarge, AdapterUnsupported


class Callback:
    """An object that a training framework might put into its checkpoint."""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the format before torch 1.6"])
def test_the_options_and_metrics_of_training_scripts_are_read(tmp_path: Path, zipped: bool) -> None:
    contents: dict[str, Any] = {
        "state_dict": {"fc.weight": torch.randn(3, 4)},
        "args": argparse.Namespace(model="resnet34", lr=0.1),
        "metric": np.float64(0.9),
        "epoch": 3,
    }
    path = tmp_path / "model_best.pth.tar"
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)

    found = load_pickle(path)

    assert torch.equal(found["state_dict"]["fc.weight"], contents["state_dict"]["fc.weight"])
    assert found["args"].model == "resnet34"
    assert found["metric"] == 0.9


@pytest.mark.parametrize(
    ("contents", "name"),
    [({"model": nn.Linear(2, 2)}, "torch.nn.modules.linear.Linear"), (Callback(), "Callback")],
    ids=["a whole network", "another object"],
)
def test_other_objects_are_named_and_not_built(tmp_path: Path, contents: Any, name: str) -> None:
    path = tmp_path / "network.pt"
    torch.save(contents, path)

    with pytest.raises(AdapterUnsupported, match=rf"network\.pt: found an object of \S*{name}") as refusal:
        load_pickle(path)

    assert "\x1b" not in str(refusal.value)


class Huge:
    """A pickle that asks for a terabyte of zeros, as a hostile file may."""

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return bytearray, (10**12,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the format before torch 1.6"])
def test_memory_that_a_file_asks_for_is_not_given(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "huge.pt"
    torch.save({"a": Huge()}, path, _use_new_zipfile_serialization=zipped)

    with pytest.raises(AdapterUnsupported, match=r"found an object of builtins\.bytearray"):
        load_pickle(path)


def test_the_advice_for_a_whole_network_works(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    torch.save(network.state_dict(), tmp_path / "weights.pt")

    assert set(load_pickle(tmp_path / "weights.pt")) == {"weight", "bias"}


def test_files_over_the_limit_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    torch.save({"a": torch.zeros(10_000)}, path)
    with pytest.raises(AdapterTooLarge, match="expected at most 10000"):
        load_pickle(path, max_bytes=10_000)

    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(2_000_000))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(AdapterTooLarge, match="found 2000000 bytes"):
        load_pickle(bomb, max_bytes=10_000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-30],
        lambda raw: b"",
        lambda raw: b"\x80\x02",
        lambda raw: b"not a pickle at all",
        lambda raw: bytes(reversed(raw)),
    ],
    ids=["half", "no end", "empty", "two bytes", "a text", "reversed"],
)
def test_a_damaged_file_is_refused_without_a_traceback_of_torch(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "damaged.pt"
    torch.save({"a": torch.zeros(100)}, path)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(AdapterMalformed, match=r"damaged\.pt: found .* Fix: ") as refusal:
        load_pickle(path)

    assert "\n" not in str(refusal.value)
