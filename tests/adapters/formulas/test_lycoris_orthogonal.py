"""Diagonal OFT and BOFT files against the live layers of LyCORIS."""

from __future__ import annotations

import pytest
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from tests.adapters.foreign.lycoris_layers import GROUPED, LAYERS, difference, with_deltas

from lensmount_adapters.errors import AdapterInvalid

OPTIONS = [{}, {"constraint": 0.02}, {"constraint": 9.0}, {"rescaled": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", GROUPED)
def test_diagonal_oft_gives_the_output_of_the_live_layer(options: dict[str, object], size: int, name: str) -> None:
    assert difference(DiagOFTModule, name, lora_dim=size, **options) < 1e-5


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", GROUPED)
def test_boft_gives_the_output_of_the_live_layer(options: dict[str, object], name: str) -> None:
    size = 4 if LAYERS[name][0]().weight.shape[0] % 6 else 6  # BOFT needs an even size times a power of two
    assert difference(ButterflyOFTModule, name, lora_dim=size, **options) < 1e-5


@pytest.mark.parametrize("size", [2, 4, 8])
def test_boft_takes_all_its_stages(size: int) -> None:
    assert difference(ButterflyOFTModule, "linear", lora_dim=size) < 1e-5


@pytest.mark.parametrize(
    "shape", [(8,), (2, 4), (3, 4, 4), (2, 4, 3), (4, 2, 4, 4), (2, 8, 1, 1), (0, 2, 4, 4), (40, 4, 2, 2)], ids=str
)
def test_blocks_of_another_layer_are_refused_with_their_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(AdapterInvalid, match=r"found oft_blocks of shape") as refusal:
        with_deltas(LAYERS["linear"][0](), {"oft_blocks": torch.zeros(shape)})

    assert str(list(shape)) in str(refusal.value)
