"""A converted network computes what torch computes, and its numbers are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lensmount_adapters.programs.openvino_model import constants_of, elements_of, from_torch
from lensmount_adapters.programs.tracing import converting


def test_a_converted_layer_computes_and_counts_as_in_torch() -> None:
    openvino = pytest.importorskip("openvino")
    layer, x = (
        nn.Sequential(nn.ReLU(), nn.Linear(3, 2)).eval(),
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
    )
    with converting():
        model = from_torch(torch.jit.trace(layer, (x,)), (x,))
        expected = layer(x).numpy()
    model.reshape([5, 3])
    (found,) = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x.numpy()).values()
    assert np.allclose(found, expected, atol=1e-6)
    assert constants_of(model) == 3 * 2 + 2
    (product,) = (node for node in model.get_ops() if node.get_type_name() == "MatMul")
    assert elements_of(product) == 5 * 3 + 5 * 2
