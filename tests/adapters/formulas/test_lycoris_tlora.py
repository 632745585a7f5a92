"""T-LoRA against the live layers of LyCORIS, from each start that LyCORIS has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lycoris.modules import tlora
from lycoris.modules.tlora import TLoraModule
from tests.adapters.foreign.lycoris_layers import difference, stored, trained, with_deltas

from lensmount_adapters.errors import AdapterUnsupported


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """LyCORIS collects garbage for each layer, which takes a second in a process of many tests."""
    monkeypatch.setattr(tlora, "gc", SimpleNamespace(collect=lambda: 0))


PLAIN = ["linear", "square linear", "conv2d 1x1"]


@pytest.mark.parametrize("start", ["principal", "middle", "last"])
@pytest.mark.parametrize("name", PLAIN)
def test_t_lora_gives_the_output_of_the_live_layer(name: str, start: str) -> None:
    assert difference(TLoraModule, name, lora_dim=2, alpha=3, sig_type=start) < 1e-5


@pytest.mark.parametrize("name", PLAIN)
def test_all_singular_values_may_be_trained(name: str) -> None:
    assert difference(TLoraModule, name, lora_dim=6, alpha=3) < 1e-5


@pytest.mark.parametrize("name", ["conv2d", "conv2d groups", "conv1d"])
def test_a_kernel_is_refused_because_lycoris_cannot_run_it(name: str) -> None:
    layer, module, _ = trained(TLoraModule, name, lora_dim=2)

    with pytest.raises(AdapterUnsupported, match=r"T-LoRA for a convolution.*Fix: leave this module out"):
        with_deltas(layer, stored(module))


def test_factors_that_did_not_start_from_the_weight_are_refused() -> None:
    layer, module, _ = trained(TLoraModule, "linear", lora_dim=2, use_data_init=False)
    U, _, V = torch.linalg.svd(layer.weight.detach())
    others = {"q_layer.weight": V[8:10], "p_layer.weight": U[:, 1:3]}  # neither the first, the middle nor the last

    with pytest.raises(AdapterUnsupported, match=r"did not start from singular vectors.*lensmount adapters extract"):
        with_deltas(layer, stored(module) | others)
