"""The methods of PEFT whose factors are made of numbers that many layers share: PVeRA, TinyLoRA and UniLoRA.

Sources: PVeRA, arXiv 2512.07703; TinyLoRA, arXiv 2602.04118; UniLoRA, arXiv 2506.00799.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import factors, take
from lensmount_adapters.formulas.peft_config import count, flag, generator, number
from lensmount_adapters.formulas.peft_low_rank import linear, misfit, shared

AS_LORA = "Fix: write it as plain LoRA with peft.save_as_lora(FOLDER, model, rank=...), and import that"


class PVeRA:
    """VeRA with a mean and a variance for each row of A: the mean is served, `(b * B) @ (d * A)`, as PEFT does."""

    name = "PVeRA"
    reads = frozenset({"pvera_lambda_b", "pvera_lambda_d"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        if flag(module.config, "sample_at_inference"):
            raise AdapterUnsupported(
                f"{module.name}: found PVeRA with sample_at_inference, expected a fixed change: it draws another one "
                "for each input. Fix: set sample_at_inference to false in adapter_config.json to serve the mean"
            )
        b, d = take(module, "pvera_lambda_b", out, 1), take(module, "pvera_lambda_d", -1, 1)
        rank = len(d) // 2  # the second half are logarithms of variances
        A = shared(module, "pvera_A", 2 * rank, inputs)[:rank, :inputs]
        B = shared(module, "pvera_B", out, rank)[:out, :rank]
        return factors(module, b * B, d[:rank] * A)


class TinyLoRA:
    """`B (sum_i v_i P_i) A`: A and B hold the largest singular values, P is drawn, v is shared by `tied` layers."""

    name = "TinyLoRA"
    reads = frozenset({"tinylora_A", "tinylora_B", "tinylora_P"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        B = take(module, "tinylora_B", out, -1)
        rank = B.shape[1]
        A = take(module, "tinylora_A", rank, inputs)
        layer, layers = self._place(module)
        groups = max(1, round(layers * (1.0 - number(module.config, "weight_tying", 0.0))))
        group = min(layer // max(1, layers // groups), groups - 1)
        v = module.shared.get(f"tinylora_v.{group}")
        if v is None or v.ndim != 1 or not torch.isfinite(v).all():
            raise misfit(module, f"tinylora_v.{group}", "no such vector" if v is None else f"one of {list(v.shape)}")
        P = self._projection(module, layer, len(v), rank)
        return factors(module, B @ torch.einsum("i,ijk->jk", v.double(), P), A)

    def _place(self, module: ForeignModule) -> tuple[int, int]:
        """Which of the adapted layers this is, in the order of the network, and how many there are."""
        place = module.config.get("place")
        if not isinstance(place, tuple):
            raise AdapterUnsupported(
                f"{module.name}: found TinyLoRA of a network whose layers are divided otherwise here, expected the "
                f"same layers: which vector a layer has depends on their order. {AS_LORA}"
            )
        return place

    def _projection(self, module: ForeignModule, layer: int, size: int, rank: int) -> Tensor:
        if "tinylora_P" in module.parts:
            return take(module, "tinylora_P", size, rank, rank)
        if size * rank * rank > 2**24:
            raise misfit(module, "tinylora_v", f"{size} projections of {rank} rows")
        draw = generator(module.config, "projection_seed", 42, layer)
        return torch.normal(0.0, 1.0 / rank**0.5, (size, rank, rank), generator=draw).double()


class UniLoRA:
    """`B @ A`: each number of both is one of a shared vector, at a place and with a scale of its own."""

    name = "UniLoRA"
    reads = frozenset({"unilora_indices_A", "unilora_indices_B", "unilora_scales_A", "unilora_scales_B"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        vector = module.shared.get("unilora_theta_d")
        rank = count(module.config, "r", 8)
        if vector is None or vector.ndim != 1 or not vector.numel() or not torch.isfinite(vector).all():
            raise AdapterInvalid(
                f"{module.name}: found no vector unilora_theta_d, which all modules share, expected it in the file. "
                "Fix: import the file as PEFT saved it",
                code="adapter_incomplete",
            )
        A = self._chosen(module, "A", vector.double(), rank, inputs)
        return factors(module, self._chosen(module, "B", vector.double(), out, rank), A)

    def _chosen(self, module: ForeignModule, factor: str, vector: Tensor, rows: int, columns: int) -> Tensor:
        places = take(module, f"unilora_indices_{factor}", rows, columns).long()
        if int(places.min()) < 0 or int(places.max()) >= len(vector):
            raise misfit(module, f"unilora_indices_{factor}", f"places up to {int(places.max())}")
        return vector[places] * take(module, f"unilora_scales_{factor}", rows, columns)
