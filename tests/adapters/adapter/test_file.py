"""The adapter file: equal contents give equal bytes, and reading returns what was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from lensmount_adapters import Manifest, dump_adapter, parse_adapter, write_adapter
from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.adapter.manifest import Factors, LinearHead
from lensmount_adapters.backbone.fingerprint import BackboneRef
from lensmount_adapters.errors import AdapterInvalid, AdapterMalformed
from lensmount_adapters.inputs.rules import Preprocessing

MANIFEST = Manifest(
    name="cells",
    method="lora",
    backbone=BackboneRef(name="resnet34", fingerprint="sha256:" + "0" * 64),
    preprocessing=Preprocessing(size=(64, 64), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    labels=("Zelle", "Öltropfen ☂"),
    head=LinearHead(),
    modules={"fc": Factors(rank=2, alpha=3.0)},
)
TENSORS = {
    "head.weight": torch.linspace(-1, 1, 8).view(2, 4),
    "fc.lora_A.weight": torch.linspace(0, 1, 6).view(2, 3),
    "bn.running_var.delta": torch.tensor([1e-6, 70_000.0]),
    "head.logit_scale": torch.tensor(4.6052),
}


def test_reading_returns_what_was_written() -> None:
    file = parse_adapter(dump_adapter(MANIFEST, TENSORS, torch.float32))
    assert file.manifest == MANIFEST
    assert file.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in TENSORS.items())


def test_float16_is_the_default_except_for_tensors_that_need_more_range() -> None:
    stored = safetensors.torch.load(dump_adapter(MANIFEST, TENSORS))
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "head.weight": torch.float16,
        "fc.lora_A.weight": torch.float16,
        "bn.running_var.delta": torch.float32,
        "head.logit_scale": torch.float32,
    }
    assert torch.equal(stored["bn.running_var.delta"], TENSORS["bn.running_var.delta"])


def test_equal_contents_give_equal_bytes_in_any_order() -> None:
    backwards = dict(reversed(TENSORS.items()))
    assert {dump_adapter(MANIFEST, tensors) for tensors in (TENSORS, backwards) for _ in range(5)} == {
        dump_adapter(MANIFEST, TENSORS)
    }


def test_a_transposed_view_is_stored_by_its_values() -> None:
    view = torch.arange(6.0).view(2, 3).T
    file = parse_adapter(dump_adapter(MANIFEST, {"head.weight": view}, torch.float32))
    assert torch.equal(file.tensors["head.weight"], view)


def test_the_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "cells.safetensors"
    digest = write_adapter(path, MANIFEST, TENSORS)
    expected = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert digest == expected == digest_of(path.read_bytes()) == parse_adapter(path.read_bytes()).digest


def test_the_safetensors_library_reads_the_file_from_disk(tmp_path: Path) -> None:
    write_adapter(tmp_path / "cells.safetensors", MANIFEST, TENSORS)
    with safetensors.safe_open(tmp_path / "cells.safetensors", "pt") as file:
        assert set(file.keys()) == TENSORS.keys()
        assert Manifest.parse(file.metadata()["lensmount"]) == MANIFEST


def test_a_write_that_fails_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cells.safetensors"
    write_adapter(path, MANIFEST, TENSORS)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_adapter(path, MANIFEST, {"head.weight": torch.ones(2, 4)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_safetensors_file_of_another_program_is_refused() -> None:
    data = safetensors.torch.save({"x": torch.ones(2)}, metadata={"format": "pt"})
    with pytest.raises(AdapterInvalid, match="without the metadata key 'lensmount'") as caught:
        parse_adapter(data)
    assert caught.value.code == "manifest_missing"


@pytest.mark.parametrize("error", [safetensors.SafetensorError, ValueError, AttributeError, KeyError])
def test_whatever_the_library_raises_is_said_of_the_file(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own check of the header comes first, so no known file reaches the last three."""
    data = dump_adapter(MANIFEST, TENSORS)

    def refuse(_: bytes) -> None:
        raise error("no")

    monkeypatch.setattr(safetensors.torch, "load", refuse)
    with pytest.raises(AdapterMalformed, match=r"the safetensors library refuses the file.*Fix: write it with"):
        parse_adapter(data)
