"""LoRA, LoHa, LoKr and GLoRA files against the live layers of LyCORIS."""

from __future__ import annotations

import pytest
import torch
from lycoris.modules.dylora import DyLoraModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from tests.adapters.foreign.lycoris_layers import (
    GROUPED,
    LAYERS,
    UNGROUPED,
    difference,
    foreign,
    stored,
    trained,
    with_deltas,
)

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.lycoris_low_rank import LoCon, LoHa, LoKr
from lensmount_adapters.formulas.parts import merged

CLOSE = 1e-5
KERNELS = [name for name in GROUPED if name.startswith("conv") and "1x1" not in name]


@pytest.mark.parametrize("options", [{}, {"use_scalar": True}, {"rs_lora": True}, {"alpha": 0}], ids=str)
@pytest.mark.parametrize("name", GROUPED)
def test_lora_gives_the_output_of_the_live_layer(name: str, options: dict[str, object]) -> None:
    assert difference(LoConModule, name, **{"lora_dim": 3, "alpha": 5.0, **options}) < CLOSE


@pytest.mark.parametrize("name", KERNELS)
def test_tucker_stays_in_three_factors(name: str) -> None:
    layer, module, _ = trained(LoConModule, name, lora_dim=3, alpha=2, use_tucker=True)

    deltas = LoCon().read(foreign(layer, stored(module)))

    assert set(deltas) == {"lora_A.weight", "lora_mid.weight", "lora_B.weight"}
    assert difference(LoConModule, name, lora_dim=3, alpha=2, use_tucker=True) < CLOSE


def test_a_middle_factor_of_a_linear_layer_is_multiplied_out() -> None:
    up, mid, down = torch.randn(8, 3).double(), torch.randn(3, 3).double(), torch.randn(3, 12).double()
    module = foreign(LAYERS["linear"][0](), {"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down})

    deltas = LoCon().read(module)

    assert set(deltas) == {"lora_A.weight", "lora_B.weight"}
    assert torch.allclose(merged(deltas, module.weight), module.weight + up @ mid @ down)


@pytest.mark.parametrize("name", GROUPED)
def test_dylora_is_lora_with_all_its_blocks(name: str) -> None:
    layer, module, _ = trained(DyLoraModule, name, lora_dim=4, alpha=3, block_size=2)
    up, down = torch.cat(list(module.up_list), 1), torch.cat(list(module.down_list))
    expected = layer.weight.double() + (3 / 4 * up.double() @ down.double()).reshape(layer.weight.shape)

    found = with_deltas(layer, stored(module)).weight

    assert (found - expected).norm() / expected.norm() < CLOSE


@pytest.mark.parametrize("options", [{}, {"use_scalar": True}, {"rs_lora": True}], ids=str)
@pytest.mark.parametrize("name", GROUPED)
def test_loha_gives_the_output_of_the_live_layer(name: str, options: dict[str, object]) -> None:
    assert difference(LohaModule, name, lora_dim=2, alpha=1.5, **options) < CLOSE


@pytest.mark.parametrize("name", KERNELS)
def test_loha_in_tucker_form_gives_the_output_of_the_live_layer(name: str) -> None:
    assert difference(LohaModule, name, lora_dim=3, alpha=2, use_tucker=True) < CLOSE


def test_loha_has_the_square_of_its_rank_until_the_product_is_smaller() -> None:
    layer, module, _ = trained(LohaModule, "linear", lora_dim=3, alpha=1)
    assert LoHa().read(foreign(layer, stored(module)))["lora_A.weight"].shape == (9, 12)

    layer, module, _ = trained(LohaModule, "linear", lora_dim=20, alpha=1)
    assert LoHa().read(foreign(layer, stored(module)))["weight.delta"].shape == (8, 12)
    assert difference(LohaModule, "linear", lora_dim=20, alpha=1) < CLOSE


LOKR = [
    {"lora_dim": 1},  # a full w1 and w2 = a @ b
    {"lora_dim": 1, "decompose_both": True, "factor": 4},
    {"lora_dim": 100, "alpha": 7},  # both full: the scale is 1 whatever alpha says
    {"lora_dim": 1, "use_tucker": True},
    {"lora_dim": 3, "use_tucker": True, "factor": 2},
    {"lora_dim": 1, "use_scalar": True},
    {"lora_dim": 1, "full_matrix": True},
    {"lora_dim": 1, "unbalanced_factorization": True, "alpha": 3},
    {"lora_dim": 1, "factor": 2, "rs_lora": True},
]


@pytest.mark.parametrize("options", LOKR, ids=str)
@pytest.mark.parametrize("name", GROUPED)
def test_lokr_gives_the_output_of_the_live_layer(options: dict[str, object], name: str) -> None:
    assert difference(LokrModule, name, **{"alpha": 2.0, **options}) < CLOSE


def test_lokr_with_a_product_is_low_rank_and_w1_may_be_tall_or_wide() -> None:
    a, b = torch.randn(4, 2).double(), torch.randn(2, 3).double()
    for rows, columns in ((2, 4), (4, 2)):
        layer = torch.nn.Linear(columns * 3, rows * 4, bias=False)
        w1 = torch.randn(rows, columns).double()
        module = foreign(layer, {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(6.0)})

        deltas = LoKr().read(module)

        assert deltas["lora_A.weight"].shape == (4, columns * 3)  # 2, the smaller side of w1, times r = 2
        expected = module.weight + 3 * torch.kron(w1, a @ b)
        assert torch.allclose(merged(deltas, module.weight), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"use_scalar": True}], ids=str)
@pytest.mark.parametrize("name", UNGROUPED)
def test_glora_gives_the_output_of_the_live_layer(name: str, options: dict[str, object]) -> None:
    assert difference(GLoRAModule, name, lora_dim=3, alpha=2, **options) < CLOSE


def test_glora_of_a_grouped_convolution_is_refused_by_name() -> None:
    layer, module, _ = trained(GLoRAModule, "conv2d groups", lora_dim=3)

    with pytest.raises(AdapterUnsupported, match="GLoRA for a convolution with 2 groups"):
        with_deltas(layer, stored(module))


def test_lora_that_mixes_all_groups_is_refused() -> None:
    layer = LAYERS["conv2d groups"][0]()
    parts = {"lora_up.weight": torch.randn(8, 3, 1, 1), "lora_down.weight": torch.randn(3, 6, 3, 3)}

    with pytest.raises(AdapterUnsupported, match="mixes the inputs of all 2 groups"):
        with_deltas(layer, parts)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("alpha", "scale"), [(None, 1), (0.0, 1), (6.0, 2), (-3.0, -1)], ids=str)
def test_a_missing_alpha_and_an_alpha_of_0_stand_for_the_rank(
    alpha: float | None, scale: float, dtype: torch.dtype
) -> None:
    layer = LAYERS["linear"][0]()
    parts = {"lora_up.weight": torch.randn(8, 3), "lora_down.weight": torch.randn(3, 12)}
    stored_alpha = {} if alpha is None else {"alpha": torch.tensor(alpha, dtype=dtype)}

    deltas = LoCon().read(foreign(layer, parts | stored_alpha))

    assert torch.equal(deltas["lora_B.weight"], scale * parts["lora_up.weight"].double())


BROKEN = {
    "half a pair": ({"lora_up.weight": torch.ones(8, 3)}, "expected lora_down.weight as well"),
    "other outputs": ({"lora_up.weight": torch.ones(9, 3), "lora_down.weight": torch.ones(3, 12)}, r"\[8, any\]"),
    "other inputs": ({"lora_up.weight": torch.ones(8, 3), "lora_down.weight": torch.ones(3, 13)}, r"\[3, 12\]"),
    "two ranks": ({"lora_up.weight": torch.ones(8, 3), "lora_down.weight": torch.ones(2, 12)}, r"\[3, 12\]"),
    "no rank": ({"lora_up.weight": torch.ones(8, 0), "lora_down.weight": torch.ones(0, 12)}, r"\[8, any\]"),
    "a number": ({"lora_up.weight": torch.tensor(1.0), "lora_down.weight": torch.ones(1, 12)}, r"\[8, any\]"),
    "not finite": ({"lora_up.weight": torch.full((8, 3), torch.nan), "lora_down.weight": torch.ones(3, 12)}, "NaN"),
    "two alphas": (
        {"lora_up.weight": torch.ones(8, 3), "lora_down.weight": torch.ones(3, 12), "alpha": torch.ones(2)},
        r"alpha of shape \[2\]",
    ),
    "LoHa of two ranks": (
        {
            "hada_w1_a": torch.ones(8, 2),
            "hada_w1_b": torch.ones(3, 12),
            "hada_w2_a": torch.ones(8, 2),
            "hada_w2_b": torch.ones(2, 12),
        },
        "expected one rank",
    ),
    "LoKr that does not divide": ({"lokr_w1": torch.ones(3, 2), "lokr_w2": torch.ones(2, 6)}, "divide 8 and 12"),
    "LoKr of a vector": ({"lokr_w1": torch.ones(3), "lokr_w2": torch.ones(2, 6)}, r"lokr_w1 of shape \[3\]"),
    "LoKr without w1": ({"lokr_w1_a": torch.ones(2, 2), "lokr_w2": torch.ones(2, 6)}, "expected lokr_w1_b"),
    "GLoRA without b": ({"a1.weight": torch.ones(12, 2), "a2.weight": torch.ones(2, 12)}, "expected b1.weight"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_named_with_its_shape(case: str) -> None:
    parts, words = BROKEN[case]

    with pytest.raises(AdapterInvalid, match=words) as refusal:
        with_deltas(LAYERS["linear"][0](), parts)

    assert "layer: found" in str(refusal.value)
    assert "Fix: " in str(refusal.value)
