"""Full differences, norms and IA3 against the live layers of LyCORIS."""

from __future__ import annotations

import pytest
import torch
from lycoris.modules.full import FullModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.norms import NormModule
from tests.adapters.foreign.lycoris_layers import GROUPED, LAYERS, UNGROUPED, difference, stored, trained, with_deltas

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported


@pytest.mark.parametrize("name", GROUPED)
def test_a_full_difference_gives_the_output_of_the_live_layer(name: str) -> None:
    assert difference(FullModule, name) < 1e-5


@pytest.mark.parametrize("name", ["layer norm", "group norm"])
def test_a_norm_gives_the_output_of_the_live_layer(name: str) -> None:
    assert difference(NormModule, name) < 1e-5


@pytest.mark.parametrize("name", GROUPED)
def test_ia3_on_outputs_gives_the_output_of_the_live_layer(name: str) -> None:
    assert difference(IA3Module, name) < 1e-5


@pytest.mark.parametrize("name", UNGROUPED)
def test_ia3_on_inputs_gives_the_output_of_the_live_layer(name: str) -> None:
    assert difference(IA3Module, name, train_on_input=True) < 1e-5


def test_ia3_on_the_inputs_of_groups_is_refused() -> None:
    layer, module, _ = trained(IA3Module, "conv2d groups", train_on_input=True)

    with pytest.raises(AdapterUnsupported, match="IA3 on the inputs of a convolution with 2 groups"):
        with_deltas(layer, stored(module))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"diff": torch.zeros(8, 13)}, r"diff of shape \[8, 13\], expected \[8, 12\]"),
        ({"diff_b": torch.zeros(7)}, r"diff_b of shape \[7\], expected \[8\]"),
        ({"on_input": torch.tensor(0)}, "expected weight as well"),
        ({"on_input": torch.tensor(0), "weight": torch.zeros(12)}, r"weight of shape \[12\], expected \[8\]"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_with_its_shape(parts: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(AdapterInvalid, match=words):
        with_deltas(LAYERS["linear"][0](), parts)


def test_a_bias_for_a_layer_without_one_is_refused() -> None:
    with pytest.raises(AdapterInvalid, match="has no bias"):
        with_deltas(LAYERS["conv2d 1x1"][0](), {"diff_b": torch.zeros(8)})
