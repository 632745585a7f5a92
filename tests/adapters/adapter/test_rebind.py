"""An adapter moves to the same weights in another precision when asked: its deltas stay, and the change is measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from lensmount_adapters import Backbone, ExactSwapper, admit, dump_adapter, load_backbone, parse_adapter
from lensmount_adapters.adapter.precision import RECORD
from lensmount_adapters.adapter.rebind import note_of, rebound
from lensmount_adapters.cli.compose import compose
from lensmount_adapters.errors import BackboneMismatch


@pytest.fixture(scope="module")
def precise() -> Backbone:
    return load_backbone("test_resnet", "random:0")


@pytest.fixture(scope="module")
def rounded(precise: Backbone) -> Backbone:
    module = load_backbone("test_resnet", "random:1").module
    module.load_state_dict({name: tensor.half().float() for name, tensor in precise.tensors.items()}, strict=False)
    return Backbone(precise.name, module, precise.preprocessing, torch.float32)


def logits(data: bytes, backbone: Backbone, x: torch.Tensor) -> torch.Tensor:
    adapter = admit(data, backbone)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    found = adapter.image_logits(backbone, x).clone()
    swapper.unmount()
    return found


@pytest.mark.parametrize("to_precise", [True, False])
def test_the_refusal_says_how_to_accept_and_the_accepted_file_is_served(
    to_precise: bool, precise: Backbone, rounded: Backbone, draw_adapter: Any
) -> None:
    made_for, here = (rounded, precise) if to_precise else (precise, rounded)
    parts = draw_adapter(made_for, "lora")
    parts.manifest["training"] = {RECORD: dict(made_for.rounded_fingerprints)}
    data = parts.dump()
    with pytest.raises(BackboneMismatch, match=r"rounded to float16\. Fix: .*--accept-rounded-backbone"):
        admit(data, here)

    moved = rebound(data, here)

    assert moved is not None
    x = torch.randn(4, *here.preprocessing.input_shape, generator=torch.Generator().manual_seed(5))
    before, after = logits(data, made_for, x), logits(moved.data, here, x)
    change = float((after - before).abs().max() / before.abs().max())
    assert change / 5 < moved.change < 5 * change  # measured on other inputs
    file, old = parse_adapter(moved.data), parse_adapter(data)
    assert file.manifest.backbone == here.ref
    assert file.manifest.training["rebound"]["backbone"] == made_for.ref.model_dump()
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in old.tensors.items())
    assert f"logits change by {moved.change:.2g}" in str(note_of(file.manifest))


def test_a_file_that_fits_stays_and_one_of_other_weights_is_refused(
    precise: Backbone, rounded: Backbone, draw_adapter: Any
) -> None:
    data = draw_adapter(precise, "lora").dump()

    assert rebound(data, precise) is None
    assert note_of(parse_adapter(data).manifest) is None
    with pytest.raises(BackboneMismatch, match=r"Fix: serve it on its own backbone or train it again"):
        rebound(data, load_backbone("test_resnet", "random:1"))


def test_an_adapter_without_a_record_is_accepted_after_the_advice_is_followed(
    precise: Backbone, rounded: Backbone, draw_adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As adapters were written before they had a record: nothing in them tells what their weights are when rounded."""
    monkeypatch.chdir(tmp_path)
    data = draw_adapter(precise, "lora").dump()
    Path("old.safetensors").write_bytes(data)
    with pytest.raises(BackboneMismatch, match="Fix: load the weights as they were before they were stored") as refusal:
        rebound(data, rounded)
    found = re.search(r"`lensmount adapters compose (.*?)`", str(refusal.value))
    assert found
    assert admit(data, precise)  # the first advice: the weights as they were

    words = {"FILE": "old.safetensors", "ORIGINAL": "random:0"}
    app = typer.Typer()
    app.command()(compose)
    made = CliRunner().invoke(app, [words.get(word, word.lower()) for word in found[1].split()])
    assert made.exit_code == 0, made.output
    moved = rebound(Path("new.safetensors").read_bytes(), rounded)

    assert moved is not None
    x = torch.randn(4, *rounded.preprocessing.input_shape, generator=torch.Generator().manual_seed(5))
    before, after = logits(data, precise, x), logits(moved.data, rounded, x)
    assert float((after - before).abs().max() / before.abs().max()) < 5 * moved.change


def test_an_adapter_fits_by_the_fingerprint_under_another_tag_of_the_same_network(
    precise: Backbone, draw_adapter: Any
) -> None:
    parts = draw_adapter(precise, "lora")
    parts.manifest["backbone"]["name"] = "test_resnet.r160_in1k"

    assert admit(parts.dump(), precise).manifest.backbone.name == "test_resnet.r160_in1k"
    parts.manifest["backbone"]["name"] = "test_efficientnet"
    with pytest.raises(BackboneMismatch, match=r"another network with the weights of test_resnet.*Fix: serve it on"):
        admit(parts.dump(), precise)


def test_promises_do_not_move_to_weights_that_they_were_not_measured_with(
    precise: Backbone, rounded: Backbone, draw_adapter: Any, draw_trust: Any
) -> None:
    moved = rebound(dump_adapter(*draw_trust(rounded, draw_adapter(rounded, "lora"))), precise)
    assert moved is not None
    assert admit(moved.data, precise).trust is None
    assert "what its answers are worth is not known there" in str(note_of(parse_adapter(moved.data).manifest))
