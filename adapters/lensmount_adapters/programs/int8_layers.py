"""Convolutions of an OpenVINO model in int8: the rounding of weights and activations is inserted, without NNCF.

The scheme is NNCF's: 255 levels around zero for each output channel of a weight, and 256 levels between two bounds for
the activations of a layer, one of which is exactly zero. OpenVINO then computes these convolutions in integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WEIGHT_LEVELS, ACTIVATION_LEVELS = 255, 256
SMALLEST = 1e-6  # of a range and of a weight, so that no scale is zero
CONVOLUTIONS = ("Convolution", "GroupConvolution")

Range = tuple[float, float]  # the lowest and the highest activation that enters a layer


def layers_of(parameters: Sequence[Any]) -> dict[int, Any]:
    """The convolutions of which these parameters of a model are the weights, by the parameter's position.

    A parameter has none if it is another kind of weight, or if several layers read it.
    """
    found = {}
    for position, parameter in enumerate(parameters):
        layer = _reader(parameter)
        while layer is not None and layer.get_type_name() == "Reshape":  # of a kernel into its groups
            layer = _reader(layer)
        if layer is not None and layer.get_type_name() in CONVOLUTIONS:
            found[position] = layer
    return found


def round_layers(openvino: Any, layers: Mapping[int, Any], ranges: Mapping[int, Range]) -> None:
    """Insert the rounding at those of the layers that have a range, by the same positions. Their weights are constants.

    A tensor that several layers read is rounded once for each.
    """
    for position, (low, high) in ranges.items():
        layer = layers.get(position)
        if layer is None:
            continue
        rounded = _rounded(openvino, layer.input_value(0), *_with_zero(low, high), ACTIVATION_LEVELS)
        layer.input(0).replace_source_output(rounded)
        weights = layer.input_value(1)
        groups = layer.get_type_name() == "GroupConvolution"  # [groups, out, in, k, k] instead of [out, in, k, k]
        values = _constant(weights.get_node()).reshape(list(weights.get_shape()))
        largest = np.abs(values).max(axis=tuple(range(1 + groups, values.ndim)), keepdims=True)
        largest = np.maximum(largest, SMALLEST).astype(np.float32)
        layer.input(1).replace_source_output(_rounded(openvino, weights, -largest, largest, WEIGHT_LEVELS))


def _rounded(openvino: Any, value: Any, low: Any, high: Any, levels: int) -> Any:
    opset = openvino.opset13
    bounds = [opset.constant(np.asarray(bound, np.float32)) for bound in (low, high)]
    return opset.fake_quantize(value, *bounds, *bounds, levels).output(0)


def _with_zero(low: float, high: float) -> Range:
    """The range with zero in it, moved so that zero is exactly one of its levels, as integers need it."""
    low, high = min(low, 0.0), max(high, SMALLEST)
    steps = ACTIVATION_LEVELS - 1
    below = min(max(round(-low / (high - low) * steps), 1 if low < 0 else 0), steps - 1)
    step = max(-low / below if below else 0.0, high / (steps - below))
    return -step * below, step * (steps - below)


def _reader(node: Any) -> Any:
    """The operation that reads these weights; None if there are several. ShapeOf does not count."""
    readers = [port.get_node() for port in node.output(0).get_target_inputs()]
    readers = [reader for reader in readers if reader.get_type_name() != "ShapeOf"]
    return readers[0] if len(readers) == 1 else None


def _constant(node: Any) -> np.ndarray:
    """The numbers of a constant that may be reshaped."""
    while node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    values: np.ndarray = node.data
    return values
