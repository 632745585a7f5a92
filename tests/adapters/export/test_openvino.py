"""OpenVINO's IR: OpenVINO reads it from its files alone and computes logits and scores for any number of inputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.openvino import OpenVino

openvino = pytest.importorskip("openvino")


def test_openvino_reads_it_and_computes_the_same(
    graph_case: Any, graph_outputs: Any, error_of: Any, tmp_path: Path
) -> None:
    adapter, backbone = graph_case
    x, logits, scores = graph_outputs(adapter, backbone)

    OpenVino().write(adapter, backbone, tmp_path)

    model = openvino.Core().read_model(tmp_path / "model.xml")
    found = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"images": x.numpy()})
    assert error_of(torch.from_numpy(found["logits"]), logits) < 1e-5
    assert error_of(torch.from_numpy(found["scores"]), scores) < 1e-5
    metadata = json.loads(model.get_rt_info(["lensmount"]).astype(str))
    assert metadata | {"notes": []} == json.loads((tmp_path / "lensmount.json").read_text())


def test_a_machine_without_openvino_is_told_what_to_install(
    small: Any, draw_on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(ExportError, match=r"Fix: pip install 'lensmount\[openvino\]'") as refused:
        OpenVino().write(draw_on(small("test_resnet"), "head"), small("test_resnet"), tmp_path)

    assert refused.value.code == "export_unavailable"
