"""Promises of another adapter, temperature or backbone are refused, and what the refusal advises works."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from lensmount_adapters import Backbone, Manifest, admit, dump_adapter, parse_adapter
from lensmount_adapters.adapter.file import METADATA_KEY
from lensmount_adapters.adapter.trust import UNSEALED
from lensmount_adapters.errors import AdapterError, AdapterInvalid

DrawTrust = Callable[..., tuple[Manifest, dict[str, Tensor]]]
CONV = "blocks.1.0.conv_exp"


class Opened:
    """A written file, to be changed by hand: `dump()` writes it without `dump_adapter`, which would tie it again."""

    def __init__(self, data: bytes) -> None:
        file = parse_adapter(data)
        self.manifest: dict[str, Any] = json.loads(file.manifest.dump())
        self.tensors = dict(file.tensors)

    @property
    def trust(self) -> dict[str, Any]:
        block: dict[str, Any] = self.manifest["trust"]
        return block

    def dump(self) -> bytes:
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        data: bytes = safetensors.torch.save(tensors, metadata={METADATA_KEY: json.dumps(self.manifest)})
        return data


@pytest.fixture
def opened(backbone: Backbone, parts: Any, draw_trust: DrawTrust) -> Opened:
    return Opened(dump_adapter(*draw_trust(backbone, parts)))


def test_the_statistics_of_an_admitted_adapter_are_float32_arrays(
    backbone: Backbone, parts: Any, draw_trust: DrawTrust
) -> None:
    manifest, tensors = draw_trust(backbone, parts)
    adapter = admit(dump_adapter(manifest, tensors), backbone)
    assert adapter.trust is not None
    statistics = adapter.trust.statistics
    assert statistics is not None
    assert statistics.means.dtype == statistics.basis.dtype == statistics.scales.dtype == np.float32
    assert np.array_equal(statistics.means, tensors["trust.means"].half().float().numpy())
    assert np.array_equal(statistics.scales, tensors["trust.scales"].numpy())  # never rounded
    assert statistics.residual == float(tensors["trust.residual"])
    assert statistics.tensors().keys() == {name for name in tensors if name.startswith("trust.")}
    bare = {name: tensor for name, tensor in tensors.items() if not name.startswith("trust.")}
    without = admit(dump_adapter(manifest.model_copy(update={"trust": None}), bare), backbone)
    assert without.trust is None
    assert adapter.nbytes() == without.nbytes() + statistics.nbytes
    x = torch.randn(2, *backbone.preprocessing.input_shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adapter.image_logits(backbone, x), without.image_logits(backbone, x))


def test_a_file_that_is_written_again_keeps_its_tie_and_its_bytes(opened: Opened, backbone: Backbone) -> None:
    file = parse_adapter(opened.dump())
    again = dump_adapter(file.manifest, file.tensors)
    assert parse_adapter(again).manifest == file.manifest
    assert admit(again, backbone).trust is not None


def move_temperature(file: Opened) -> None:
    file.manifest["head"]["temperature"] = 1.0


def move_threshold(file: Opened) -> None:
    file.trust["selective"]["threshold"] = 0.5


def move_means(file: Opened) -> None:
    file.tensors["trust.means"] = file.tensors["trust.means"] + 1


def move_weights(file: Opened) -> None:
    file.tensors[f"{CONV}.lora_A.weight"] = file.tensors[f"{CONV}.lora_A.weight"] * 2


def move_alpha(file: Opened) -> None:
    file.manifest["modules"][CONV]["alpha"] *= 2


def move_other_space(file: Opened) -> None:
    _, _, rest = file.trust["familiarity"]["space"].partition("|")
    file.trust["familiarity"]["space"] = f"sha256:{'7' * 64}|{rest}"


def let_quantiles_fall(file: Opened) -> None:
    file.trust["familiarity"]["quantiles"][50] = -1.0


MUTANTS: dict[str, tuple[Callable[[Opened], object], str]] = {
    "a temperature that was dropped": (move_temperature, "calibration.temperature: found 1.25 with a head of temp"),
    "a threshold of another adapter": (move_threshold, "trust.of: found promises of sha256"),
    "statistics of another adapter": (move_means, "trust.of: found promises of sha256"),
    "weights of another adapter": (move_weights, "trust.of: found promises of sha256"),
    "another alpha": (move_alpha, "trust.of: found promises of sha256"),
    "labels in another order": (lambda file: file.manifest["labels"].reverse(), "trust.of: found promises of sha256"),
    "other preprocessing": (
        lambda file: file.manifest["preprocessing"].update(resize="pad"),
        "trust.of: found promises of sha256",
    ),
    "a block that was never tied": (lambda file: file.trust.update(of=UNSEALED), "trust.of: found promises"),
    "statistics of another backbone": (move_other_space, "familiarity.space: found the backbone sha256:777"),
    "quantiles that fall": (let_quantiles_fall, "found quantiles that fall"),
    "a threshold too few": (
        lambda file: file.trust["conformal"]["thresholds"].pop(),
        "thresholds: found 1, expected 2",
    ),
    "a count too many": (lambda file: file.trust["conformal"]["images"].append(3), "images: found 3, expected 2"),
    "a positive label of others": (
        lambda file: file.trust["operating"].update(positive="maybe"),
        "operating.positive: found 'maybe', expected one of the labels",
    ),
    "a tensor too few": (lambda file: file.tensors.pop("trust.basis"), "found the tensors trust.means"),
    "a tensor too many": (lambda file: file.tensors.update({"trust.x": torch.ones(1)}), "found the tensors trust"),
    "no block for the tensors": (lambda file: file.manifest.pop("trust"), "and no trust block, expected both"),
    "means of more classes": (
        lambda file: file.tensors.update({"trust.means": torch.ones(3, 24).half()}),
        r"trust.means: found shape \[3, 24\], expected \[2, 24\]",
    ),
    "means without a shape": (lambda file: file.tensors.update({"trust.means": torch.tensor(1.0)}), "found shape"),
    "a basis of other features": (
        lambda file: file.tensors.update({"trust.basis": torch.ones(5, 23).half()}),
        r"trust.basis: found shape \[5, 23\], expected \[5, 24\]",
    ),
    "a scale of 0": (lambda file: file.tensors["trust.scales"].view(-1)[2:3].zero_(), "scales: found 0, expected at"),
    "a residual of 0": (lambda file: file.tensors["trust.residual"].zero_(), "residual: found 0, expected at least"),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_mutant_is_refused_and_without_its_promises_it_is_admitted(
    what: str, opened: Opened, backbone: Backbone, nothing_moves: None
) -> None:
    change, message = MUTANTS[what]
    assert admit(opened.dump(), backbone).trust is not None
    change(opened)
    with pytest.raises(AdapterInvalid, match=message) as caught:
        admit(opened.dump(), backbone)
    assert caught.value.code == "trust_mismatch"
    assert "Fix: train again with the option calibration, or leave the trust block" in str(caught.value)
    opened.manifest.pop("trust", None)
    opened.tensors = {name: tensor for name, tensor in opened.tensors.items() if not name.startswith("trust.")}
    assert admit(opened.dump(), backbone).trust is None


def test_the_promises_of_one_adapter_are_refused_in_another(
    backbone: Backbone, draw_adapter: Callable[..., Any], draw_trust: DrawTrust
) -> None:
    first, second = (Opened(dump_adapter(*draw_trust(backbone, draw_adapter(backbone, seed=s)))) for s in (1, 2))
    second.manifest["trust"] = first.trust
    second.tensors |= {name: tensor for name, tensor in first.tensors.items() if name.startswith("trust.")}
    with pytest.raises(AdapterInvalid, match="found promises of sha256") as caught:
        admit(second.dump(), backbone)
    assert caught.value.code == "trust_mismatch"


def test_statistics_of_more_than_200_kb_are_refused_and_fewer_rows_are_admitted(
    backbone: Backbone, parts: Any, draw_trust: DrawTrust
) -> None:
    manifest, tensors = draw_trust(backbone, parts, width=1024, rank=96)
    with pytest.raises(AdapterError, match=r"expected at most 200000\. Fix: keep fewer rows of trust\.basis") as caught:
        admit(dump_adapter(manifest, tensors), backbone)
    assert caught.value.code == "adapter_too_large"
    manifest, tensors = draw_trust(backbone, parts, width=1024, rank=64)
    assert admit(dump_adapter(manifest, tensors), backbone).trust is not None


def test_a_block_without_familiarity_has_no_statistics(backbone: Backbone, parts: Any, draw_trust: DrawTrust) -> None:
    manifest, _ = draw_trust(backbone, parts)
    assert manifest.trust is not None
    manifest = manifest.model_copy(update={"trust": manifest.trust.model_copy(update={"familiarity": None})})
    adapter = admit(dump_adapter(manifest, parts.tensors), backbone)
    assert adapter.trust is not None
    assert adapter.trust.statistics is None
    assert adapter.manifest.trust == adapter.trust.block


def test_a_tie_does_not_depend_on_the_training_record_or_the_name(opened: Opened, backbone: Backbone) -> None:
    opened.manifest |= {"name": "renamed", "description": "other words", "training": {"seconds": 3}}
    assert admit(opened.dump(), backbone).trust is not None
