"""T-LoRA of LyCORIS: the difference from singular vectors of the base weight, which training started from.

Source: T-LoRA, arXiv 2507.05964, as LyCORIS 4.1.3 computes it. The start is not in the file. It is found again among
the singular vectors of W, and the trained factors must lie near it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterUnsupported
from lensmount_adapters.formulas.lycoris_low_rank import scale
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import factors, sizes, take

NEAR = 0.5  # the mean cosine between trained vectors and their start; vectors of another weight have 1 / sqrt(in)
_MERGE = "Fix: merge it with LyCORIS (network.merge_to()), save the whole network, and run `lensmount adapters extract`"


class TLoRA:
    """`s (P diag(l) Q - P_0 diag(l_0) Q_0)`, where P_0, l_0, Q_0 are the largest, middle or smallest of W."""

    name = "T-LoRA"
    reads = frozenset({"q_layer.weight", "p_layer.weight", "lambda_layer", "alpha"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, _ = sizes(module)
        if module.groups > 1 or module.weight.numel() != out * inputs:
            raise AdapterUnsupported(
                f"{module.name}: found T-LoRA for a convolution of shape {list(module.weight.shape)} with "
                f"{module.groups} groups, expected a linear layer or a 1x1 convolution without groups: LyCORIS itself "
                "cannot run others. Fix: leave this module out"
            )
        Q = take(module, "q_layer.weight", -1, inputs)  # [r, in]
        rank = len(Q)
        P = take(module, "p_layer.weight", out, rank)
        P_0, l_0, Q_0 = self._start(module, P, Q)
        s = scale(module, rank)
        B = torch.cat([s * P * take(module, "lambda_layer", 1, rank), -s * P_0 * l_0], dim=1)
        return factors(module, B, torch.cat([Q, Q_0]))

    def _start(self, module: ForeignModule, P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The singular vectors of W that the factors are nearest to, with their values."""
        U, S, V = torch.linalg.svd(module.weight.flatten(1).float(), full_matrices=False)
        rank = min(len(Q), len(S))
        first = {"principal": 0, "middle": (len(S) - len(Q)) // 2, "last": len(S) - rank}
        starts = {start: (U[:, at : at + rank], S[at : at + rank], V[at : at + rank]) for start, at in first.items()}
        near = {start: _cosine(P.T[:rank], u.T) + _cosine(Q[:rank], v) for start, (u, _, v) in starts.items()}
        best = max(near, key=lambda start: near[start])
        if near[best] < 2 * NEAR:
            raise AdapterUnsupported(
                f"{module.name}: found T-LoRA that did not start from singular vectors of this backbone's weight "
                f"(mean cosine {near[best] / 2:.2f}), expected at least {NEAR}: what it subtracts is not in the file. "
                + _MERGE
            )
        u, s, v = (tensor.double() for tensor in starts[best])
        return u, s, v


def _cosine(first: Tensor, second: Tensor) -> float:
    """The mean of the cosines between rows, without signs: those of singular vectors differ between machines."""
    return float(torch.cosine_similarity(first, second.double(), dim=1).abs().mean())
