"""A TorchScript file: torch loads it without our code and computes logits and scores for any number of inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters.export.torchscript import TorchScript


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:FutureWarning")
def test_torch_loads_it_and_computes_the_same(
    graph_case: Any, graph_outputs: Any, error_of: Any, tmp_path: Path
) -> None:
    adapter, backbone = graph_case
    x, logits, scores = graph_outputs(adapter, backbone)

    TorchScript().write(adapter, backbone, tmp_path)

    extra = {"lensmount.json": ""}
    module = torch.jit.load(tmp_path / "model.pt", _extra_files=extra)
    with torch.no_grad():
        found = module(x)
    assert error_of(found[0], logits) < 1e-5
    assert error_of(found[1], scores) < 1e-5
    assert json.loads(extra["lensmount.json"]) | {"notes": []} == json.loads((tmp_path / "lensmount.json").read_text())
