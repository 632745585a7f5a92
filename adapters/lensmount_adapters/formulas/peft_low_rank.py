"""The methods of PEFT whose change is a product of two matrices: `B @ A` is added to the weight.

Sources: LoRA, arXiv 2106.09685; DoRA, arXiv 2402.09353; rsLoRA, arXiv 2312.03732; PiSSA, arXiv 2404.02948; OLoRA, arXiv
2406.01775; AdaLoRA, arXiv 2303.10512; VeRA, arXiv 2310.11454; VB-LoRA, arXiv 2405.15179; MiSS, arXiv 2409.15371;
DeLoRA, arXiv 2503.18225. W is the base weight and r the rank, which is always the size of a factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import factors, matrix, merged, sizes, take
from lensmount_adapters.formulas.peft_config import count, flag, generator, number

MERGE = (
    "Fix: merge it with PEFT (model.merge_and_unload()), save the whole network, and run `lensmount adapters extract`"
)
KNOWN_STARTS = frozenset({True, False, None, "gaussian", "eva", "orthogonal", "mica", "pissa", "olora"})
"""What `init_lora_weights` may be. Only PiSSA and OLoRA change the base, and by what the base itself determines."""


class LoRA:
    """`s * B @ A`, s = alpha / r, or alpha / sqrt(r) with `use_rslora`; with `use_dora` also a length for each row."""

    name = "LoRA"
    reads = frozenset({"lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_magnitude_vector"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        refuse_groups(module, self.name)
        out, _, _ = sizes(module)
        B = take(module, "lora_B.weight", out, -1)  # [out, r]
        rank = B.shape[1]
        A = take(module, "lora_A.weight", rank, module.weight[0].numel())  # [r, in * k]
        s = self.scale(module, rank)
        B, A = _from_changed_base(module, s, s * B, A)
        deltas = factors(module, B, A)
        if "lora_B.bias" in module.parts:
            deltas["bias.delta"] = s * take(module, "lora_B.bias", out)
        if "lora_magnitude_vector" in module.parts:
            lengths = merged(deltas, module.weight).flatten(1).norm(dim=1)
            deltas["weight.row_scale"] = take(module, "lora_magnitude_vector", out) / lengths
        return deltas

    def scale(self, module: ForeignModule, rank: int) -> float:
        root = math.sqrt(rank) if flag(module.config, "use_rslora") else rank
        return number(module.config, "lora_alpha", 8) / root


def _from_changed_base(module: ForeignModule, s: float, B: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract what PiSSA and OLoRA took out of the base when training started, as PEFT computes it in float32."""
    start = module.config.get("init_lora_weights")
    start = start.lower() if isinstance(start, str) else start
    if not isinstance(start, str | bool | None) or start not in KNOWN_STARTS:
        raise AdapterUnsupported(
            f"{module.name}: found LoRA that began with init_lora_weights {start!r}, which changed the base by "
            "something random or by data, expected a change that the file determines. Fix: save it with "
            "save_pretrained(path, path_initial_model_for_weight_conversion=...), which writes plain LoRA"
        )
    if start not in ("pissa", "olora"):
        return B, A
    if module.weight.ndim != 2:
        raise AdapterUnsupported(
            f"{module.name}: found {start} for a convolution, expected a linear layer: PEFT starts only these "
            f"so. {MERGE}"
        )
    rank, W = A.shape[0], module.weight.float()
    if start == "pissa":
        U, S, V = torch.linalg.svd(W, full_matrices=False)
        taken_B, taken_A = U[:, :rank] * S[:rank], V[:rank]
    else:
        Q, R = torch.linalg.qr(W)
        taken_B, taken_A = s * Q[:, :rank], R[:rank]
    return torch.cat([B, -taken_B.double()], dim=1), torch.cat([A, taken_A.double()])


class AdaLoRA:
    """`alpha / (r + 1e-5) * B @ (A * E)`, where r is the rank that training started with."""

    name = "AdaLoRA"
    reads = frozenset({"lora_A", "lora_B", "lora_E"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        refuse_groups(module, self.name)
        out, _, _ = sizes(module)
        B = take(module, "lora_B", out, -1)
        A = take(module, "lora_A", B.shape[1], module.weight[0].numel()) * take(module, "lora_E", B.shape[1], 1)
        s = number(module.config, "lora_alpha", 8) / (count(module.config, "init_r", 12) + 1e-5)
        return factors(module, s * B, A)


class VeRA:
    """`(b * B) @ (d * A)`: A and B are shared by all layers and cut to each, b and d are the layer's own."""

    name = "VeRA"
    reads = frozenset({"vera_lambda_b", "vera_lambda_d"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        b, d = take(module, "vera_lambda_b", out, 1), take(module, "vera_lambda_d", -1, 1)
        A = shared(module, "vera_A", len(d), inputs)[: len(d), :inputs]
        B = shared(module, "vera_B", out, len(d))[:out, : len(d)]
        return factors(module, b * B, d * A)


def vera_projections(config: Mapping[str, Any], weights: Sequence[Tensor], times: int = 1) -> tuple[Tensor, Tensor]:
    """The projections A and B of a file that was saved without them, drawn again from the seed in the config.

    `weights` are those of all layers in the file: PEFT draws A [times * r, most inputs] and then B [most outputs, r],
    both Kaiming-uniform, on the CPU. `times` is 2 for PVeRA and 1 for VeRA.
    """
    rank = count(config, "r", 256)
    inputs, outputs = max(weight.shape[1] for weight in weights), max(weight.shape[0] for weight in weights)
    draw = generator(config, "projection_prng_key", 0)

    def drawn(rows: int, columns: int) -> Tensor:
        bound = math.sqrt(3.0) * (math.sqrt(2) / math.sqrt(columns))
        return torch.empty(rows, columns).uniform_(-bound, bound, generator=draw)

    if rank > max(inputs, outputs) * 64:
        raise AdapterInvalid(
            f"adapter_config.json, r: found {rank} for layers of {inputs} inputs, expected the rank of the file. "
            "Fix: import the file as PEFT saved it"
        )
    return drawn(times * rank, inputs), drawn(outputs, rank)


class VBLoRA:
    """`B @ A`, both put together from a shared bank of vectors: each piece mixes its `topk` best vectors."""

    name = "VB-LoRA"
    reads = frozenset(
        {
            "vblora_logits_A",
            "vblora_logits_B",
            "vblora_logits_A_topk_indices",
            "vblora_logits_A_topk_weights",
            "vblora_logits_B_topk_indices",
            "vblora_logits_B_topk_weights",
        }
    )

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        bank = shared(module, "vblora_vector_bank", 1, 1)  # [vectors, length]
        A = self._mixed(module, "vblora_logits_A", bank).flatten(1)  # [r, inputs / length, length]
        B = self._mixed(module, "vblora_logits_B", bank).transpose(1, 2).flatten(0, 1)  # [out / length, r, length]
        if A.shape != (B.shape[1], inputs) or len(B) != out:
            raise misfit(module, "vblora_logits", f"products of {list(B.shape)} and {list(A.shape)}")
        return factors(module, B, A)

    def _mixed(self, module: ForeignModule, part: str, bank: Tensor) -> Tensor:
        """[a, b, vectors] logits to [a, b, length]."""
        if part in module.parts:
            logits = _cube(module, part)
            if logits.shape[2] != len(bank):
                raise misfit(module, part, f"logits of {logits.shape[2]} vectors and a bank of {len(bank)}")
            best, indices = logits.topk(min(count(module.config, "topk", 2), len(bank)))
            weights = best.softmax(-1)
        else:
            most = _cube(module, f"{part}_topk_weights")  # all but the last
            weights = torch.cat([most, 1 - most.sum(-1, keepdim=True)], dim=-1)
            indices = _cube(module, f"{part}_topk_indices").long()
            if weights.shape != indices.shape or int(indices.min()) < 0 or int(indices.max()) >= len(bank):
                raise misfit(module, part, f"indices of {list(indices.shape)} for a bank of {len(bank)} vectors")
        if weights.numel() * bank.shape[1] > 64 * max(module.weight.numel(), 2**16):
            raise misfit(module, part, f"{weights.numel()} weights")
        return (weights.unsqueeze(-1) * bank[indices]).sum(-2)


class MiSS:
    """One block [r, out] that is added to every r columns of the weight in turn; `mini` repeats it over the outputs."""

    name = "MiSS"
    reads = frozenset({"miss_block"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        if module.config.get("init_weights") == "bat":
            return self._bat(module, out, inputs)
        block = matrix(module, "miss_block")
        if module.config.get("init_weights") == "mini" and block.shape[1] and out % block.shape[1] == 0:
            block = block.repeat(1, out // block.shape[1])
        rank = len(block)
        if block.shape[1] != out or rank > inputs:
            raise misfit(module, "miss_block", f"a block of {list(block.shape)}")
        A = torch.eye(rank, dtype=torch.float64).repeat(1, -(-inputs // rank))[:, :inputs]  # column j is unit j mod r
        return factors(module, block.T, A)

    def _bat(self, module: ForeignModule, out: int, inputs: int) -> dict[str, Tensor]:
        """`X @ b + b` for each tile X [r, r] of the weight; b belongs to the tile's row."""
        rank = module.parts["miss_block"].shape[-1] if "miss_block" in module.parts else 1
        if not rank or out % rank or inputs % rank:
            raise misfit(module, "miss_block", f"tiles of {rank} rows and columns")
        b = take(module, "miss_block", out // rank, rank, rank)
        X = module.weight.reshape(out // rank, rank, inputs // rank, rank).permute(2, 0, 1, 3)
        return {"weight.delta": (X @ b + b).permute(1, 2, 0, 3).reshape(out, inputs)}


class DeLoRA:
    """`lambda / r * B @ A * w`, where rows of A and columns of B have length 1; w is the length of W's columns."""

    name = "DeLoRA"
    reads = frozenset({"delora_A", "delora_B", "delora_lambda", "delora_w_norm"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        B = take(module, "delora_B", out, -1)
        A = take(module, "delora_A", B.shape[1], inputs)
        lengths = A.norm(dim=1).clamp(min=1e-4) * B.norm(dim=0).clamp(min=1e-4)
        s = take(module, "delora_lambda", 1) / B.shape[1] / lengths  # [r]
        return factors(module, B * s, A * take(module, "delora_w_norm", 1, inputs))


def linear(module: ForeignModule, method: str) -> tuple[int, int]:
    """Return out and in. Raises AdapterUnsupported for a convolution, which PEFT has no such method for."""
    out, inputs, kernel = sizes(module)
    if kernel:
        raise AdapterUnsupported(
            f"{module.name}: found {method} for a convolution, expected a linear layer: PEFT changes only these so. "
            "Fix: import it for the backbone that it was trained on"
        )
    return out, inputs


def refuse_groups(module: ForeignModule, method: str) -> None:
    """Raises AdapterUnsupported for a convolution with groups, whose inputs PEFT mixes across the groups."""
    if module.groups > 1:
        raise AdapterUnsupported(
            f"{module.name}: found {method} of PEFT for a convolution with {module.groups} groups. PEFT mixes the "
            "inputs of all groups there, expected a change of the weight, which cannot do that. Fix: leave this "
            "module out of target_modules and train again, or train it with LyCORIS"
        )


def shared(module: ForeignModule, name: str, rows: int, columns: int) -> Tensor:
    """Return a tensor that all modules share, in float64. It is a matrix of at least `rows` and `columns`."""
    tensor = module.shared.get(name)
    if tensor is None:
        raise AdapterInvalid(
            f"{module.name}: found no tensor {name}, which all modules share, expected it in the file. "
            "Fix: save the adapter with save_projection=True",
            code="adapter_incomplete",
        )
    if tensor.ndim != 2 or tensor.shape[0] < rows or tensor.shape[1] < columns or not torch.isfinite(tensor).all():
        raise misfit(module, name, f"a tensor of shape {list(tensor.shape)}")
    return tensor.double()


def misfit(module: ForeignModule, part: str, found: str) -> AdapterInvalid:
    return AdapterInvalid(
        f"{module.name}, {part}: found {found}, expected a fit to the backbone's weight {list(module.weight.shape)}. "
        "Fix: import it for the backbone that it was trained on",
        code="adapter_shape_mismatch",
    )


def _cube(module: ForeignModule, part: str) -> Tensor:
    """Return a part with three dimensions."""
    tensor = module.parts.get(part)
    shape = tuple(tensor.shape) if tensor is not None and tensor.ndim == 3 and tensor.numel() else (0, 0, 0)
    return take(module, part, *shape)
