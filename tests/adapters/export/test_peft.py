"""A PEFT directory: PEFT loads it without a warning on the backbone's weights and computes the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.peft import Peft

peft = pytest.importorskip("peft")

SMALL = ("test_resnet", "test_vit", "test_efficientnet")
METHODS = ("lora", "lora-tucker", "lora-shared", "bias", "norm", "head", "mixed")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_peft_computes_the_same_logits(
    name: str, method: str, tmp_path: Path, small: Any, draw_on: Any, logits_error: Any, base_of: Any
) -> None:
    backbone: Backbone = small(name)
    adapter: Adapter = draw_on(backbone, method)

    Peft().write(adapter, backbone, tmp_path)

    model = peft.PeftModel.from_pretrained(base_of(backbone, 2), tmp_path).eval()
    assert logits_error(model, adapter, backbone) < 1e-5


def test_each_module_keeps_its_rank_and_alpha_and_one_whose_name_ends_others_is_not_wrapped(
    tmp_path: Path, small: Any, draw_adapter: Any, logits_error: Any, base_of: Any
) -> None:
    """`bn1` of a ResNet also ends the names of the norms in its blocks, and PEFT would wrap them all."""
    backbone: Backbone = small("resnet10t")
    parts = draw_adapter(backbone, modules=r"layer4\.0\.conv[12]|layer3\.0\.conv1|conv1\.0")
    for number, (module, factors) in enumerate(parts.manifest["modules"].items(), start=1):
        factors |= {"rank": number, "alpha": 0.5 + number}
        parts.tensors[f"{module}.lora_A.weight"] = parts.tensors[f"{module}.lora_A.weight"][:number].contiguous()
        parts.tensors[f"{module}.lora_B.weight"] = parts.tensors[f"{module}.lora_B.weight"][:, :number].contiguous()
    parts.tensors["bn1.weight.delta"] = torch.rand(backbone.targets["bn1.weight"].shape)
    adapter = admit(parts.dump(), backbone)

    Peft().write(adapter, backbone, tmp_path)

    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert len(config["rank_pattern"]) == len(config["alpha_pattern"]) == 3  # the fourth is the default
    model = peft.PeftModel.from_pretrained(base_of(backbone, 2), tmp_path).eval()
    assert logits_error(model, adapter, backbone) < 1e-5
    wrapped = [n for n, m in model.named_modules() if isinstance(m, peft.utils.ModulesToSaveWrapper)]
    assert [name.removeprefix("base_model.model.") for name in wrapped] == ["fc"]


def test_factors_with_groups_are_saved_as_merged_weights_and_this_is_said(
    tmp_path: Path, small: Any, draw_on: Any
) -> None:
    backbone: Backbone = small("test_efficientnet")

    notes = Peft().write(draw_on(backbone, "lora"), backbone, tmp_path)

    assert len(notes) == 1
    assert "blocks.3.0.conv_dw" in notes[0]
    assert "merged weights" in notes[0]
    assert notes[0] in (tmp_path / "README.md").read_text()


def test_an_average_over_orientations_is_refused(tmp_path: Path, small: Any, draw_on: Any) -> None:
    backbone: Backbone = small("test_resnet")
    adapter = draw_on(backbone, preprocessing={"orientations": 2})

    with pytest.raises(ExportError, match="2 orientations, expected one orientation"):
        Peft().write(adapter, backbone, tmp_path)
