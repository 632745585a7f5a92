"""The methods of PEFT that multiply elementwise, by blocks or as Kronecker products.

Sources: LoHa (FedPara), arXiv 2108.06098; LoKr (KronA), arXiv 2212.10650; HiRA, ICLR 2025; GraLoRA, arXiv 2505.20355;
RandLoRA, arXiv 2502.00987. LoHa and LoKr have the names and formulas of LyCORIS; only their scale is in the config.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas import lycoris_low_rank as lycoris
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import matrix, sizes, take
from lensmount_adapters.formulas.peft_config import count, number
from lensmount_adapters.formulas.peft_low_rank import linear, misfit, refuse_groups


class LoHa:
    """`alpha / r * (w1_a @ w1_b) * (w2_a @ w2_b)`, elementwise."""

    name = "LoHa"
    reads = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        alpha = torch.tensor(number(module.config, "alpha", 8), dtype=torch.float64)
        if not alpha:
            return {"weight.delta": torch.zeros_like(module.weight)}  # LyCORIS reads an alpha of 0 as the rank
        return lycoris.LoHa().read(dataclasses.replace(module, parts={**module.parts, "alpha": alpha}))


class LoKr:
    """`alpha / r * kron(w1, w2)`, where r is the config's: no tensor tells it if neither w1 nor w2 is a product."""

    name = "LoKr"
    reads = frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        s = number(module.config, "alpha", 8) / count(module.config, "r", 8)
        deltas = lycoris.LoKr().read(module)  # without an alpha, LyCORIS' scale is 1
        part = "weight.delta" if "weight.delta" in deltas else "lora_B.weight"
        return {**deltas, part: s * deltas[part]}


class HiRA:
    """`W * (B @ A)`, elementwise; on a convolution B @ A is flattened as in LoRA."""

    name = "HiRA"
    reads = frozenset({"hira_A", "hira_B"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        refuse_groups(module, self.name)
        out, _, _ = sizes(module)
        B = take(module, "hira_B", out, -1)
        A = take(module, "hira_A", B.shape[1], module.weight[0].numel())
        return {"weight.delta": module.weight * (B @ A).reshape(module.weight.shape)}


class GraLoRA:
    """A grid of k x k blocks, each of rank r / k; the hybrid form adds one product over the whole weight."""

    name = "GraLoRA"
    reads = frozenset({"gralora_A", "gralora_B", "gralora_A_general.weight", "gralora_B_general.weight"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        k, _, rank = cube(module.parts, "gralora_A").shape
        if rank % k or out % k or inputs % k:
            raise misfit(module, "gralora_A", f"{k} x {k} blocks of rank {rank}")
        A = take(module, "gralora_A", k, inputs // k, rank).reshape(k, inputs // k, k, rank // k)  # [x, in / k, y, q]
        B = take(module, "gralora_B", k, rank, out // k).reshape(k, k, rank // k, out // k)  # [y, x, q, out / k]
        delta = torch.einsum("xiyq,yxqo->yoxi", A, B).reshape(out, inputs)
        hybrid = 0
        if "gralora_A_general.weight" in module.parts:
            general = take(module, "gralora_B_general.weight", out, -1)
            hybrid = general.shape[1]
            delta = delta + general @ take(module, "gralora_A_general.weight", hybrid, inputs)
        return {"weight.delta": number(module.config, "alpha", 64) / (rank + hybrid) * delta}


class RandLoRA:
    """`s * flat(B) @ flat(lambda * A * gamma)`, transposed where the layer has more inputs than outputs.

    A [r, 1, least] and B [most, n, r] are random and shared by all layers; lambda [r, n] and gamma [n, least] are the
    layer's own.
    """

    name = "RandLoRA"
    reads = frozenset({"randlora_lambda", "randlora_gamma", "randlora_A", "randlora_B"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        short, long = min(out, inputs), max(out, inputs)
        weights = matrix(module, "randlora_lambda")
        rank, bases = weights.shape
        gamma = take(module, "randlora_gamma", bases, short)
        projections = {**module.shared, **module.parts}  # PEFT 0.21 also stores a copy with each layer
        A, B = cube(projections, "randlora_A"), cube(projections, "randlora_B")
        if A.shape[0] != rank or A.shape[2] < short or B.shape[0] < long or B.shape[1] < bases or B.shape[2] != rank:
            raise misfit(module, "randlora_A, randlora_B", f"shapes {list(A.shape)} and {list(B.shape)}")
        scaled = weights[:, :, None] * A[:, :1, :short] * gamma  # [r, n, short]
        delta = B[:long, :bases].flatten(1) @ scaled.flatten(0, 1)  # [long, short]
        s = number(module.config, "randlora_alpha", 640) / rank
        return {"weight.delta": s * (delta if short == inputs else delta.T)}


def cube(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """Return a tensor with three dimensions in float64. Raises AdapterInvalid if there is none, or it is not finite."""
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 3 or not tensor.numel() or not torch.isfinite(tensor).all():
        found = "nothing" if tensor is None else f"a tensor of shape {list(tensor.shape)}"
        raise AdapterInvalid(
            f"{name}: found {found}, expected finite values in three dimensions. Fix: save the adapter again, and with "
            "save_projection=True if it has shared projections",
            code="adapter_incomplete",
        )
    return tensor.double()
