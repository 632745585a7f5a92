"""The methods of LyCORIS that multiply factors: LoRA and LoCon, LoHa, LoKr and GLoRA, read from their files.

Sources: LyCORIS, arXiv 2309.14859; LoHa (FedPara), arXiv 2108.06098; LoKr (KronA), arXiv 2212.10650; GLoRA, arXiv
2306.07967. W is the base weight, r the rank, and s = alpha / r.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import MIXED_RANK, factors, matrix, sizes, take


def scale(module: ForeignModule, rank: int) -> float:
    """`alpha / rank`. An alpha that is missing or 0 stands for the rank, as in LyCORIS and in kohya's scripts."""
    alpha = float(take(module, "alpha", 1)) if "alpha" in module.parts else 0.0
    return (alpha or rank) / rank


class LoCon:
    """`s * up @ down`; with `lora_mid` the CP/Tucker form. DyLoRA writes the same file, with all its blocks."""

    name = "LoRA"
    reads = frozenset({"lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, kernel = sizes(module)
        up = take(module, "lora_up.weight", out, -1)  # [out, r]
        rank = up.shape[1]
        up = scale(module, rank) * up
        if "lora_mid.weight" not in module.parts:
            self._check_groups(module, rank)
            down = take(module, "lora_down.weight", rank, module.weight[0].numel())
            return factors(module, up, down)
        ones = [1] * len(kernel)
        down = take(module, "lora_down.weight", rank, inputs, *ones)
        mid = take(module, "lora_mid.weight", rank, rank, *kernel)
        if not kernel:
            return factors(module, up @ mid, down)
        return {"lora_A.weight": down, "lora_mid.weight": mid, "lora_B.weight": up.reshape(out, rank, *ones)}

    def _check_groups(self, module: ForeignModule, rank: int) -> None:
        """Refuse factors of all inputs for a weight of groups, as PEFT and kohya's scripts train them."""
        down = module.parts.get("lora_down.weight")
        if down is not None and module.groups > 1 and down.numel() == rank * module.groups * module.weight[0].numel():
            raise AdapterUnsupported(
                f"{module.name}: found lora_down of shape {list(down.shape)}, which mixes the inputs of all "
                f"{module.groups} groups, expected [{rank}, {', '.join(map(str, module.weight.shape[1:]))}]: no change "
                "of a grouped weight does the same. Fix: train with LyCORIS 4.1.3 or later, or leave this module out"
            )


class LoHa:
    """`s * (w1_a @ w1_b) * (w2_a @ w2_b)`, elementwise: the rank is at most r * r, with these factors."""

    name = "LoHa"
    reads = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "alpha"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, kernel = sizes(module)
        columns = module.weight[0].numel()  # in / groups * k
        if "hada_t1" in module.parts or "hada_t2" in module.parts:
            first, second = (self._tucker(module, part, out, inputs, kernel) for part in "12")
            rank = module.parts["hada_w1_b"].shape[0]
            return {"weight.delta": scale(module, rank) * first * second}
        (a1, b1), (a2, b2) = (
            (take(module, f"hada_w{part}_a", out, -1), take(module, f"hada_w{part}_b", -1, columns)) for part in "12"
        )
        if a1.shape[1] != b1.shape[0] or a2.shape[1] != b2.shape[0]:
            raise AdapterInvalid(
                f"{module.name}: found LoHa factors of ranks {a1.shape[1]}, {b1.shape[0]}, {a2.shape[1]} and "
                f"{b2.shape[0]}, expected one rank. Fix: import the complete file",
                code="adapter_shape_mismatch",
            )
        s = scale(module, b1.shape[0])
        rank = a1.shape[1] * a2.shape[1]
        if rank * (out + columns) > max(module.weight.numel(), MIXED_RANK * (out + columns)):
            return {"weight.delta": (s * (a1 @ b1) * (a2 @ b2)).reshape(module.weight.shape)}
        B = torch.einsum("oi,oj->oij", a1, a2).reshape(out, -1)  # products of columns, [out, r * r]
        A = torch.einsum("ic,jc->ijc", b1, b2).reshape(-1, columns)  # products of rows, [r * r, in * k]
        return factors(module, s * B, A)

    def _tucker(self, module: ForeignModule, part: str, out: int, inputs: int, kernel: tuple[int, ...]) -> Tensor:
        a = take(module, f"hada_w{part}_a", -1, out)  # [r, out]
        b = take(module, f"hada_w{part}_b", a.shape[0], inputs)
        t = take(module, f"hada_t{part}", a.shape[0], a.shape[0], *kernel)
        return torch.einsum("ij...,ip,jr->pr...", t, a, b)


class LoKr:
    """`s * kron(w1, w2)`; each may be a product. With a product for w2 the rank is the smaller side of w1 times r."""

    name = "LoKr"
    reads = frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "alpha"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, kernel = sizes(module)
        w1, s = self._first(module)
        if out % w1.shape[0] or inputs % w1.shape[1]:
            raise AdapterInvalid(
                f"{module.name}: found lokr_w1 of shape {list(w1.shape)}, expected sizes that divide {out} and "
                f"{inputs}. Fix: import it for the backbone that it was trained on",
                code="adapter_shape_mismatch",
            )
        rows, columns = out // w1.shape[0], inputs // w1.shape[1]
        if "lokr_w2" in module.parts:
            w2 = take(module, "lokr_w2", rows, columns, *kernel)
            return {"weight.delta": (s or 1.0) * torch.kron(_padded(w1, kernel), w2)}
        if "lokr_t2" in module.parts:
            a = take(module, "lokr_w2_a", -1, rows)  # [r, rows]
            b = take(module, "lokr_w2_b", a.shape[0], columns)
            t = take(module, "lokr_t2", a.shape[0], a.shape[0], *kernel)
            w2 = torch.einsum("ij...,ip,jr->pr...", t, a, b)
            w1 = (s or scale(module, a.shape[0])) * w1
            return {"weight.delta": torch.kron(_padded(w1, kernel), w2.contiguous())}
        a = take(module, "lokr_w2_a", rows, -1)  # [rows, r]
        b = take(module, "lokr_w2_b", a.shape[1], columns, *kernel)
        s = s or scale(module, a.shape[1])
        left, right = (w1, torch.eye(w1.shape[1])) if w1.shape[0] >= w1.shape[1] else (torch.eye(w1.shape[0]), w1)
        B = torch.kron(s * left.double(), a)  # kron(w1, a b) = kron(w1, a) kron(1, b) = kron(1, a) kron(w1, b)
        A = torch.kron(_padded(right.double(), kernel), b)
        return factors(module, B, A.flatten(1))

    def _first(self, module: ForeignModule) -> tuple[Tensor, float | None]:
        """Return w1, and the scale if w1 alone tells it. It is 1 where neither w1 nor w2 is a product."""
        if "lokr_w1" in module.parts:
            return matrix(module, "lokr_w1"), 1.0 if "lokr_w2" in module.parts else None
        a = matrix(module, "lokr_w1_a")
        return a @ take(module, "lokr_w1_b", a.shape[1], -1), scale(module, a.shape[1])


class GLoRA:
    """`s * (W a1 a2 + b1 b2)`, where `a1 a2` acts on the input channels. With a 1x1 kernel the rank is 2 r."""

    name = "GLoRA"
    reads = frozenset({"a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight", "alpha"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, kernel = sizes(module)
        if module.groups > 1:
            raise AdapterUnsupported(
                f"{module.name}: found GLoRA for a convolution with {module.groups} groups, expected one without: "
                "its formula has no meaning there. Fix: leave this module out"
            )
        a2 = take(module, "a2.weight", -1, inputs)
        rank = a2.shape[0]
        a1 = scale(module, rank) * take(module, "a1.weight", inputs, rank)
        b1 = scale(module, rank) * take(module, "b1.weight", out, rank)
        if "bm.weight" in module.parts:
            mid = take(module, "bm.weight", rank, rank, *kernel)
            b2 = torch.einsum("pq...,qi->pi...", mid, take(module, "b2.weight", rank, inputs)).flatten(1)
        else:
            b2 = take(module, "b2.weight", rank, module.weight[0].numel())
        if module.weight.numel() == out * inputs:
            W = module.weight.reshape(out, inputs)
            return factors(module, torch.cat([W @ a1, b1], dim=1), torch.cat([a2, b2]))
        added = torch.einsum("oi...,ij,jk->ok...", module.weight, a1, a2)
        return {"weight.delta": added + (b1 @ b2).reshape(module.weight.shape)}


def _padded(matrix: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """[a, b] -> [a, b, *1], for a Kronecker product with a kernel."""
    return matrix.reshape(*matrix.shape, *[1] * len(kernel))
