"""What formats share: the head with its temperature, the description, and refusals that name another format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.target import cannot_hold, linear_head, write_description


def test_the_temperature_is_part_of_the_linear_head(small: Any, draw_on: Any) -> None:
    backbone: Backbone = small("test_resnet")
    adapter: Adapter = draw_on(backbone, "head", temperature=2.0)

    weight, bias = linear_head(adapter, "peft")

    stored = adapter.head.state_dict()
    assert torch.equal(weight * 2, stored["weight"])
    assert torch.equal(bias * 2, stored["bias"])


def test_a_refusal_names_the_format_the_finding_and_the_way_out() -> None:
    error = cannot_hold("peft", "a head of kind mlp", "a linear head", "onnx")

    assert str(error) == "peft: found a head of kind mlp, expected a linear head. Fix: export to onnx"
    assert (type(error), error.code) == (ExportError, "export_not_possible")


def test_the_description_has_what_a_program_needs_and_the_readme_what_a_person_needs(
    tmp_path: Path, small: Any, draw_on: Any
) -> None:
    backbone: Backbone = small("test_resnet")
    adapter: Adapter = draw_on(backbone, "head", temperature=2.0, labels=("oak", "ächte"))

    write_description(adapter, tmp_path, "load()", ["mind the gap"])

    found = json.loads((tmp_path / "lensmount.json").read_text("utf-8"))
    assert found["labels"] == ["oak", "ächte"]
    assert found["digest"] == adapter.digest
    assert found["backbone"] == {"name": "test_resnet", "fingerprint": backbone.fingerprint}
    assert found["preprocessing"] == adapter.manifest.preprocessing.model_dump(mode="json")
    assert found["temperature_applied"] == 2.0
    assert found["notes"] == ["mind the gap"]
    readme = (tmp_path / "README.md").read_text("utf-8")
    assert backbone.fingerprint in readme
    assert "```python\nload()\n```" in readme
    assert "* mind the gap" in readme


def test_a_head_of_two_layers_is_refused(small: Any, draw_adapter: Any) -> None:
    from lensmount_adapters import admit

    backbone: Backbone = small("test_resnet")
    parts = draw_adapter(backbone, "head")
    parts.manifest["head"] = {
        "kind": "mlp",
        "layers": [
            {"type": "linear", "in_features": backbone.feature_dim, "out_features": 4},
            {"type": "linear", "in_features": 4, "out_features": 2},
        ],
    }
    del parts.tensors["head.weight"], parts.tensors["head.bias"]
    for index, (outputs, inputs) in enumerate(((4, backbone.feature_dim), (2, 4))):
        parts.tensors |= {
            f"head.{index}.weight": torch.ones(outputs, inputs),
            f"head.{index}.bias": torch.zeros(outputs),
        }

    with pytest.raises(ExportError, match=r"kind mlp, expected a linear head\. Fix: export to onnx, openvino"):
        linear_head(admit(parts.dump(), backbone), "timm")
