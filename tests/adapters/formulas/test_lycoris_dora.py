"""DoRA over every other method of LyCORIS, by output and by input, against its live layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from tests.adapters.foreign.lycoris_layers import GROUPED, LAYERS, difference, foreign, stored, trained, with_deltas

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.foreign.lycoris import method_of

METHODS: list[tuple[Any, dict[str, Any]]] = [
    (LoConModule, {}),
    (LoConModule, {"use_tucker": True}),
    (LohaModule, {}),
    (LohaModule, {"use_tucker": True}),
    (LokrModule, {}),
    (LokrModule, {"use_tucker": True}),
]


@pytest.mark.parametrize("on_out", [True, False])
@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("name", GROUPED)
def test_dora_gives_the_output_of_the_live_layer(method: tuple[Any, dict[str, Any]], name: str, on_out: bool) -> None:
    kind, options = method
    assert difference(kind, name, lora_dim=2, alpha=3, weight_decompose=True, wd_on_out=on_out, **options) < 1e-5


def test_dora_adds_one_factor_for_each_row_or_column_to_the_other_delta() -> None:
    for on_out, scale, count in ((True, "weight.row_scale", 8), (False, "weight.column_scale", 12)):
        layer, module, _ = trained(LoConModule, "linear", lora_dim=2, weight_decompose=True, wd_on_out=on_out)
        file = foreign(layer, stored(module))

        deltas = method_of(file).read(file)

        assert method_of(file).name == "LoRA with DoRA"
        assert set(deltas) == {"lora_A.weight", "lora_B.weight", scale}
        assert deltas[scale].shape == (count,)


def test_lengths_of_another_layer_are_refused() -> None:
    parts = {
        "lora_up.weight": torch.ones(8, 2),
        "lora_down.weight": torch.ones(2, 12),
        "dora_scale": torch.ones(9, 1),
    }

    with pytest.raises(AdapterInvalid, match=r"dora_scale of shape \[9, 1\], expected \[8, 1, ...\] or \[1, 12, ...\]"):
        with_deltas(LAYERS["linear"][0](), parts)
