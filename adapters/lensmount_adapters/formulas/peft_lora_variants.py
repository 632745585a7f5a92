"""Options of PEFT's LoRA that make another formula of it: KaSA and BD-LoRA.

Sources: KaSA, arXiv 2412.06071; BD-LoRA, the code of PEFT 0.21.2. VeLoRA and MonteCLoRA change only the training: what
they write is plain LoRA.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import factors, take
from lensmount_adapters.formulas.peft_config import count
from lensmount_adapters.formulas.peft_low_rank import LoRA, linear, misfit


class KaSA(LoRA):
    """`s * B diag(d) A` is added to W without its r smallest singular values, so the rank is 2 r."""

    name = "LoRA, KaSA"
    reads = LoRA.reads | {"lora_diag"}

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        B = take(module, "lora_B.weight", out, -1)
        rank = B.shape[1]
        if rank >= min(out, inputs):
            raise misfit(module, "lora_B.weight", f"a rank of {rank}")
        A = take(module, "lora_A.weight", rank, inputs)
        s = self.scale(module, rank)
        U, S, V = (tensor.double() for tensor in torch.linalg.svd(module.weight.float(), full_matrices=False))
        B = torch.cat([s * B * take(module, "lora_diag", 1, rank), -U[:, -rank:] * S[-rank:]], dim=1)
        return factors(module, B, torch.cat([A, V[-rank:]]))


class BDLoRA(LoRA):
    """LoRA with a factor of blocks: its file holds the blocks of the diagonal one below the other."""

    name = "LoRA, BD-LoRA"

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        _, inputs = linear(module, self.name)
        options = module.config.get("use_bdlora")
        blocks = count(options, "nblocks", 1) if isinstance(options, Mapping) else 1
        parts = dict(module.parts)
        for part, columns in (("lora_A.weight", inputs), ("lora_B.weight", self._rank(module))):
            stored = parts.get(part)
            if stored is not None and stored.ndim == 2 and stored.shape[1] * blocks == columns and blocks > 1:
                if len(stored) % blocks:
                    raise misfit(module, part, f"{len(stored)} rows in {blocks} blocks")
                parts[part] = torch.block_diag(*stored.chunk(blocks))  # type: ignore[no-untyped-call]  # of torch
        return super().read(dataclasses.replace(module, parts=parts))

    @staticmethod
    def _rank(module: ForeignModule) -> int:
        A = module.parts.get("lora_A.weight")
        return len(A) if A is not None and A.ndim else 0
