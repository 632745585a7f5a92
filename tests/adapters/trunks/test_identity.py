"""Every part of a trunk's identity changes its key."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch

from lensmount_adapters import load_backbone
from lensmount_adapters.programs.eager import Eager
from lensmount_adapters.trunks.identity import TrunkIdentity, trunk_identity


def test_every_part_of_an_identity_changes_its_key() -> None:
    identity = TrunkIdentity("sha256:1", "relu", "float32", "eager torch 2.11", "cpu", "")
    keys = {replace(identity, **{field.name: "another"}).key for field in fields(identity)}
    assert len(keys | {identity.key}) == 1 + len(fields(identity))


def test_equal_identities_have_equal_keys_and_parts_are_not_run_together() -> None:
    identity = TrunkIdentity("sha256:1", "relu", "float32", "eager", "cpu")
    assert identity.key == replace(identity).key
    assert replace(identity, backbone="ab", cut="c").key != replace(identity, backbone="a", cut="bc").key


def test_an_identity_names_weights_cut_precision_program_and_machine() -> None:
    backbone = load_backbone("resnet10t", "random:0")
    float32 = trunk_identity(backbone, "layer1", Eager("cpu", torch.float32))
    assert (float32.backbone, float32.cut, float32.precision, float32.quantised) == (
        backbone.fingerprint,
        "layer1",
        "float32",
        "",
    )
    assert float32.program == f"eager torch {torch.__version__}"
    assert float32.machine.startswith("cpu ")
    assert trunk_identity(backbone, "layer1", Eager("cpu", torch.bfloat16)).precision == "bfloat16"
    assert trunk_identity(load_backbone("resnet10t", "random:1"), "layer1", Eager("cpu")).key != float32.key
    assert trunk_identity(backbone, "layer1", Eager("cpu", torch.float32), "sha256:2").key != float32.key


def test_on_a_gpu_it_says_whether_convolutions_may_round_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = SimpleNamespace(fingerprint="sha256:1", device=torch.device("cuda:0"))
    monkeypatch.setattr("lensmount_adapters.trunks.identity.device_name", lambda device: "a GPU")
    found = []
    for allowed in (False, True):
        monkeypatch.setattr("lensmount_adapters.trunks.identity.tf32_allowed", lambda allowed=allowed: allowed)
        found.append(trunk_identity(backbone, "layer1", Eager("cpu")).precision)  # type: ignore[arg-type]
    assert found == ["float32", "float32 tf32"]
