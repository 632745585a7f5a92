"""A traced module becomes a graph of plain calls whose weights are nodes, and computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, Preprocessing
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.graph.functional import FunctionalBranch, functional_branch
from lensmount_adapters.graph.plain_calls import PlainCalls, tensors_of_calls
from lensmount_adapters.graph.segments import Segments


def full_branch(backbone: Backbone) -> FunctionalBranch:
    """The backbone without a trunk."""
    return functional_branch(Segments(backbone.module).halves(set(backbone.targets)).branch, backbone)


def test_layers_name_the_graph_nodes_that_compute_them(every_layer: Callable[..., Backbone]) -> None:
    backbone = every_layer()
    branch = full_branch(backbone)
    nodes = {node.name: node for node in branch.module.graph.nodes}

    for layer in branch.layers.values():
        assert layer.inputs == tuple(name for name in branch.inputs if name.rpartition(".")[0] == layer.module)
        assert layer.layer == backbone.targets[layer.inputs[0]].layer
        assert {nodes[name].op for name in layer.nodes} == {"call_function"}
    depthwise = branch.layers["depthwise"]
    assert nodes[depthwise.nodes[0]].target is F.conv2d
    assert depthwise.geometry == {"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "groups": 8}
    assert branch.layers["linear"].geometry == {}
    conv = branch.layers["conv2d"]
    assert conv.norm is not None
    assert conv.norm.name == "batch_norm2d"
    assert "batch_norm2d" not in branch.layers
    inputs = [node.op for node in branch.module.graph.nodes][: 1 + len(branch.inputs)]
    assert set(inputs) == {"placeholder"}  # before everything else, as the arguments of forward


class Net(nn.Module):
    """A convolution with a norm, a linear layer, a parameter of its own, and a layer that is nobody's plain call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)
        self.drop, self.odd = nn.Dropout(), nn.PReLU()
        self.linear = nn.Linear(4, 2, bias=False)
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor, repeats: int = 2) -> Tensor:
        x = self.odd(self.drop(self.norm(self.conv(x)))).mean((2, 3))
        features: Tensor = self.linear(x) * self.gain * repeats
        return features


@pytest.fixture
def traced() -> fx.GraphModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net().eval()
    norm = net.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    return fx.symbolic_trace(net.requires_grad_(False))


def test_the_graph_computes_what_the_module_computes(traced: fx.GraphModule) -> None:
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(3))

    plain = PlainCalls(traced, tensors_of_calls(traced)).assembled()

    torch.testing.assert_close(plain(images), traced(images), rtol=1e-5, atol=1e-6)
    assert not any(isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.Dropout) for layer in plain.modules())
    assert [node.name for node in plain.graph.nodes if node.op == "placeholder"] == ["x"]  # `repeats` has its default


def test_a_weight_is_a_node_with_its_name_and_a_norm_is_folded_by_the_formula(traced: fx.GraphModule) -> None:
    calls = PlainCalls(traced, tensors_of_calls(traced))

    state = {name: tensor.double() for name, tensor in traced.state_dict().items() if tensor.is_floating_point()}
    gain = state["norm.weight"] / (state["norm.running_var"] + 1e-5).sqrt()
    shift = (state["conv.bias"] - state["norm.running_mean"]) * gain + state["norm.bias"]
    assert set(calls.values) == {"conv.weight", "conv.bias", "linear.weight", "gain"}
    torch.testing.assert_close(calls.values["conv.weight"].double(), gain.view(4, 1, 1, 1) * state["conv.weight"])
    torch.testing.assert_close(calls.values["conv.bias"].double(), shift)
    assert torch.equal(calls.unfolded["conv.weight"], traced.get_parameter("conv.weight"))
    assert {node.target for node in calls.graph.nodes if node.op == "get_attr"} == set(calls.values)


def test_a_layer_with_a_tensor_that_is_not_given_is_left_as_it_is(traced: fx.GraphModule) -> None:
    tensors = tensors_of_calls(traced)
    del tensors["norm.running_var"]

    plain = PlainCalls(traced, tensors).assembled()

    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(plain(images), traced(images), rtol=1e-5, atol=1e-6)
    assert isinstance(plain.get_submodule("norm"), nn.BatchNorm2d)


def test_tensors_of_layers_that_are_no_plain_call_are_not_listed(traced: fx.GraphModule) -> None:
    listed = tensors_of_calls(traced)

    assert "odd.weight" not in listed
    assert "norm.num_batches_tracked" not in listed
    assert {"conv.weight", "norm.running_var", "linear.weight", "gain"} <= set(listed)


class Positions(nn.Module):
    """Tokens with positions from a table, RMSNorm, and a scale that no layer owns."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, stride=4)
        self.positions = nn.Embedding(16, 6)
        self.register_buffer("order", torch.arange(16))
        self.norm = nn.RMSNorm(6)
        self.gamma = nn.Parameter(torch.full((6,), 0.5))
        self.pretrained_cfg: Any = {}

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.positions(self.order)
        features: Tensor = (self.gamma * self.norm(tokens)).mean(1)
        return features


def test_tables_rms_norms_and_parameters_without_a_layer_are_inputs_of_the_branch() -> None:
    torch.manual_seed(0)
    rule = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    backbone = Backbone("positions", Positions(), rule, torch.float32)
    assert backbone.targets["norm.weight"].layer == "norm"
    assert backbone.targets.keys() == dict(backbone.module.named_parameters()).keys()
    added = {name: torch.randn(target.shape) for name, target in backbone.targets.items()}
    deltas = read_deltas(backbone.targets, {f"{name}.delta": tensor for name, tensor in added.items()}, {})

    branch = full_branch(backbone)

    assert branch.covers(deltas)
    images = torch.randn(2, 3, 16, 16)
    merged = branch.merged(deltas)
    found = branch.module(images, *(merged[name] for name in branch.inputs))
    weights = {name: backbone.tensors[name] + tensor for name, tensor in added.items()}
    expected = torch.func.functional_call(backbone.module, weights, (images,))
    assert torch.allclose(found, expected, atol=1e-5)
