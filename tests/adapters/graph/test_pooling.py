"""The pooled vector is each channel's mean over space, whichever dimension the channels are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensmount_adapters import Backbone
from lensmount_adapters.graph.pooling import Pooling, flat_columns, pooling_of, space_of
from lensmount_adapters.graph.segments import Segments


@pytest.mark.parametrize(
    ("shape", "channels_last", "space"),
    [
        ((2, 5, 3, 4), False, (2, 3)),
        ((2, 5, 3, 4, 2), False, (2, 3, 4)),
        ((2, 3, 4, 5), True, (1, 2)),
        ((2, 7, 5), False, (1,)),
    ],
    ids=["maps", "volumes", "channels last", "tokens"],
)
def test_each_channel_is_averaged_over_space(
    shape: tuple[int, ...], channels_last: bool, space: tuple[int, ...]
) -> None:
    x = torch.randn(shape)

    pooling = Pooling(len(shape), channels_last=channels_last)

    expected = x.double().numpy().mean(space)
    assert np.allclose(pooling(x), expected, atol=1e-6)
    assert np.allclose(pooling.traced()(x), expected, atol=1e-6)
    columns = pooling.traced_with_activations()(x)
    assert np.allclose(columns[:, : expected.shape[1]], expected, atol=1e-6)
    assert torch.equal(columns[:, expected.shape[1] :], x.flatten(1))
    assert torch.equal(flat_columns()(x), x.flatten(1))


def test_a_vector_stays_as_it_is_and_half_precision_is_averaged_in_float32() -> None:
    x = torch.randn(2, 5)
    assert torch.equal(Pooling(2)(x), x)

    ones = torch.full((1, 1, 64, 64), 1.0078125, dtype=torch.bfloat16)  # a sum of 4,096 in bfloat16 would lose the rest
    assert Pooling(4)(ones).tolist() == [[1.0078125]]


def test_the_layout_is_that_of_the_network(small_backbone: Backbone) -> None:
    maps = torch.zeros(1, 2, 3, 4)
    assert pooling_of(small_backbone, maps).space == (2, 3)

    class Swin(torch.nn.Module):
        output_fmt = "NHWC"

    small_backbone = Backbone.__new__(Backbone)
    small_backbone.module = Swin()
    assert pooling_of(small_backbone, maps).space == (1, 2)


def test_a_space_names_weights_layer_and_kind(small_backbone: Backbone) -> None:
    halves = Segments(small_backbone.module).halves({"blocks.2.0.conv_pw.weight"})

    assert space_of(small_backbone, halves.at) == f"{small_backbone.fingerprint}|{halves.at}|mean"


def test_no_module_is_called_differently_while_a_graph_of_a_pooling_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.fx replaces `Module.__call__` of the whole process while it traces: another thread would fail."""

    def traced(*_: object) -> None:
        raise AssertionError("a tracer was used")

    monkeypatch.setattr(torch.fx.Tracer, "trace", traced)
    for graph in (Pooling(4).traced(), Pooling(4).traced_with_activations(), flat_columns()):
        assert graph(torch.ones(1, 2, 3, 3)).shape[0] == 1
