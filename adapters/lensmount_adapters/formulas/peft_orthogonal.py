"""The methods of PEFT that rotate or reflect a layer's inputs or outputs: OFT, BOFT, HRA and RoAd.

Sources: OFT, arXiv 2306.07280; BOFT, arXiv 2311.06243; HRA, arXiv 2405.17484; RoAd, arXiv 2409.00119. M(W) is the
weight as a matrix [out, in * k].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import factors, matrix, sizes, take
from lensmount_adapters.formulas.peft_config import count, flag, number
from lensmount_adapters.formulas.peft_low_rank import linear, misfit, refuse_groups

MOST_TERMS = 64  # of the Neumann series; PEFT's default is 5


class OFT:
    """`M(W) @ R^T - M(W)`: R consists of rotations of b inputs each, made from the upper triangles of skew matrices."""

    name = "OFT"
    reads = frozenset({"oft_R.weight"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        refuse_groups(module, self.name)
        sizes(module)
        W = module.weight.flatten(1)
        stored = matrix(module, "oft_R.weight")
        size = (1 + math.isqrt(1 + 8 * stored.shape[1])) // 2  # b (b - 1) / 2 numbers in the triangle
        if size * (size - 1) // 2 != stored.shape[1] or W.shape[1] % size:
            raise misfit(module, "oft_R.weight", f"{stored.shape[1]} numbers for each block")
        blocks = W.shape[1] // size
        if len(stored) not in (1, blocks):
            raise misfit(module, "oft_R.weight", f"{len(stored)} blocks of {size} inputs")
        R = self._rotations(module, _limited(module, stored), size).expand(blocks, size, size)
        turned = torch.einsum("obi,bji->obj", W.reshape(-1, blocks, size), R).reshape(W.shape)
        return {"weight.delta": (turned - W).reshape(module.weight.shape)}

    def _rotations(self, module: ForeignModule, stored: Tensor, size: int) -> Tensor:
        Q = stored.new_zeros(len(stored), size, size)
        rows, columns = torch.triu_indices(size, size, 1)
        Q[:, rows, columns] = stored
        Q = Q - Q.mT
        if not flag(module.config, "use_cayley_neumann", True):
            return cayley(Q)
        terms = count(module.config, "num_cayley_neumann_terms", 5)
        if terms > MOST_TERMS:
            raise AdapterInvalid(
                f"adapter_config.json, num_cayley_neumann_terms: found {terms}, expected at most {MOST_TERMS}. "
                "Fix: import the file as PEFT saved it"
            )
        terms = 4 if terms == 3 else terms  # PEFT's loop gives the same for both
        weights = [2.0] * (terms - 2) + [1.0] if terms > 3 else [2.0] * (terms - 1)
        R, power = torch.eye(size, dtype=Q.dtype).expand_as(Q), Q
        for weight in weights:
            R, power = R + weight * power, power @ Q
        return R


def _limited(module: ForeignModule, stored: Tensor) -> Tensor:
    """With `coft`, each skew matrix has at most the length `eps / sqrt(blocks)`, to which PEFT shortens it."""
    if not flag(module.config, "coft"):
        return stored
    longest = number(module.config, "eps", 6e-5) / math.sqrt(len(stored))
    lengths = math.sqrt(2) * stored.norm(dim=1, keepdim=True)
    return torch.where(lengths <= longest, stored, stored * (longest / lengths))


class BOFT:
    """`s * (R M(W)^T)^T - M(W)`: R is a product of stages, which permute, rotate blocks, and permute back."""

    name = "BOFT"
    reads = frozenset({"boft_R", "boft_s"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        refuse_groups(module, self.name)
        out, _, _ = sizes(module)
        W = module.weight.flatten(1)
        shape = tuple(module.parts["boft_R"].shape) if "boft_R" in module.parts else ()
        if len(shape) != 4 or not all(shape) or shape[1] * shape[2] != W.shape[1] or shape[2] != shape[3]:
            raise misfit(module, "boft_R", f"a tensor of shape {list(shape)}")
        stages, blocks, size, _ = shape
        if stages > 1 and (size % 2 or blocks % 2 ** (stages - 1)):
            raise misfit(module, "boft_R", f"{stages} stages of {blocks} blocks of {size} inputs")
        raw = take(module, "boft_R", stages, blocks, size, size)
        rotations = cayley((raw - raw.mT) / 2)  # [stages, blocks, size, size]
        columns = W.T  # [in * k, out]
        for stage, R in enumerate(rotations):
            order = _butterfly(W.shape[1], int(blocks / 2**stage), size // 2, stages)
            mixed = columns[order].reshape(blocks, size, out)
            back = torch.empty_like(columns)
            back[order] = (R @ mixed).reshape(columns.shape)
            columns = back
        turned = take(module, "boft_s", out, 1) * columns.T
        return {"weight.delta": (turned - W).reshape(module.weight.shape)}


def _butterfly(count: int, groups: int, chunk: int, stages: int) -> Tensor:
    """The order of the inputs: in each of `groups`, the even chunks and then the odd ones. One stage keeps the order.

    PEFT's P has a one at (i, order[i]) and its stage is P blockdiag(R) P^T, so rows are gathered by the inverse order.
    """
    order = torch.arange(count)
    if stages > 1:
        in_chunks = order.reshape(groups, -1, chunk)
        order = torch.cat([in_chunks[:, 0::2], in_chunks[:, 1::2]], dim=1).reshape(-1)
    return torch.argsort(order)


class HRA:
    """`M(W) @ (H - 1)`: H is a product of r reflections `1 - 2 u u^T`, so H - 1 has at most the rank r."""

    name = "HRA"
    reads = frozenset({"hra_u"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        refuse_groups(module, self.name)
        sizes(module)
        W = module.weight.flatten(1)
        U = take(module, "hra_u", W.shape[1], -1)  # [in * k, r]
        if U.shape[1] > W.shape[1]:
            raise misfit(module, "hra_u", f"{U.shape[1]} reflections")
        if flag(module.config, "apply_GS"):
            U = _orthonormal(U)
            return factors(module, -2 * W @ U, U.T)
        U = U / U.norm(dim=0)
        # H_r = H_{r-1} (1 - 2 u u^T) = 1 + K_r U_r^T, with the columns k_j = -2 H_{j-1} u_j = -2 (u_j + K U^T u_j)
        K = torch.empty_like(U)
        for j in range(U.shape[1]):
            K[:, j] = -2 * (U[:, j] + K[:, :j] @ (U[:, :j].T @ U[:, j]))
        return factors(module, W @ K, U.T)


def _orthonormal(U: Tensor) -> Tensor:
    """Gram and Schmidt's columns, up to their signs, which reflections do not have."""
    Q: Tensor = torch.linalg.qr(U)[0]
    return Q


class RoAd:
    """Pairs of outputs are rotated and scaled: weight and bias rows h0, h1 of a group become c h - s (h1, -h0)."""

    name = "RoAd"
    reads = frozenset({"road_theta", "road_alpha"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        half = count(module.config, "group_size", 64) // 2
        if not half or out % (2 * half):
            raise misfit(module, "road_theta", f"groups of {2 * half} outputs")
        c, s = self._columns(module, out, half)
        rows = module.weight if module.bias is None else torch.cat([module.weight, module.bias[:, None]], dim=1)
        first, second = rows.reshape(-1, 2, half, rows.shape[1]).unbind(1)
        rotated = torch.stack([-second, first], dim=1).reshape(rows.shape)
        delta = (c - 1)[:, None] * rows + s[:, None] * rotated
        return {"weight.delta": delta[:, :inputs]} | ({} if module.bias is None else {"bias.delta": delta[:, inputs]})

    def _columns(self, module: ForeignModule, out: int, half: int) -> tuple[Tensor, Tensor]:
        """alpha cos(theta) and alpha sin(theta) for each output; variants repeat fewer or have separate numbers."""
        variant = module.config.get("variant", "road_1")
        if variant == "road_1":
            theta, alpha = (
                take(module, f"road_{part}", out // 2, 1).reshape(-1, half).repeat_interleave(2, dim=0).flatten()
                for part in ("theta", "alpha")
            )
            return alpha * theta.cos(), alpha * theta.sin()
        if variant == "road_2":
            theta, alpha = (take(module, f"road_{part}", out, 1).flatten() for part in ("theta", "alpha"))
            return alpha * theta.cos(), alpha * theta.sin()
        if variant == "road_4":
            theta, alpha = (
                take(module, f"road_{part}", 2 * out, 1).reshape(-1, 2, 2 * half) for part in ("theta", "alpha")
            )
            return (alpha[:, 0] * theta[:, 0].cos()).flatten(), (alpha[:, 1] * theta[:, 1].sin()).flatten()
        raise AdapterInvalid(
            f"adapter_config.json, variant: found {str(variant)[:40]!r}, expected road_1, road_2 or road_4. "
            "Fix: import the file as PEFT saved it"
        )


def cayley(Q: Tensor) -> Tensor:
    """`(1 - Q) (1 + Q)^-1` of skew matrices [..., b, b]: a rotation each."""
    eye = torch.eye(Q.shape[-1], dtype=Q.dtype)
    turned: Tensor = torch.linalg.solve(eye + Q, eye - Q, left=False)
    return turned
