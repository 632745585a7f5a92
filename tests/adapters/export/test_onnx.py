"""An ONNX file: ONNX Runtime reads it and computes logits and scores for any number of inputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.onnx import Onnx


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_runtime_reads_it_and_computes_the_same(
    graph_case: Any, graph_outputs: Any, error_of: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    adapter, backbone = graph_case
    x, logits, scores = graph_outputs(adapter, backbone)

    Onnx().write(adapter, backbone, tmp_path)

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(["logits", "scores"], {"images": x.numpy()})
    assert error_of(torch.from_numpy(found[0]), logits) < 1e-5
    assert error_of(torch.from_numpy(found[1]), scores) < 1e-5
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["lensmount"])
    assert metadata | {"notes": []} == json.loads((tmp_path / "lensmount.json").read_text())


def test_a_machine_without_onnx_is_told_what_to_install(
    small: Any, draw_on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(ExportError, match=r"Fix: pip install 'lensmount\[onnx\]'") as refused:
        Onnx().write(draw_on(small("test_resnet"), "head"), small("test_resnet"), tmp_path)

    assert refused.value.code == "export_unavailable"
