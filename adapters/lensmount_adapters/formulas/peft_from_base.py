"""The methods of PEFT that compute their change from the base weight: GLoRA, DEFT, PEANuT, OSF and FRoD.

Sources: GLoRA, arXiv 2306.07967; PEANuT, arXiv 2410.01870; FRoD, doi 10.1609/aaai.v40i31.39813; DEFT and OSF, the
code of PEFT 0.21.2. W is the base weight [out, in]. What PEFT computes in float32 when it loads a file is computed in
float32 here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import factors, take
from lensmount_adapters.formulas.peft_config import flag, number
from lensmount_adapters.formulas.peft_low_rank import MERGE, linear, misfit


class GLoRA:
    """`W * A + B` is added to W, and `b * D + E + W C` to the bias b. Each is a product, a vector, a number or 0."""

    name = "GLoRA"
    reads = frozenset(f"glora_{path}.{part}" for path in "ABCDE" for part in ("Xd", "Xu", "X", "zeros"))

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        A, B = self._path(module, "A", out, inputs), self._path(module, "B", out, inputs)
        deltas = {"weight.delta": module.weight * A + B.expand(out, inputs)}
        if module.bias is not None:
            C, D, E = self._path(module, "C", inputs, 1), self._path(module, "D", out), self._path(module, "E", out)
            deltas["bias.delta"] = module.bias * D + E + (module.weight @ C.reshape(inputs, 1)).flatten()
        return deltas

    def _path(self, module: ForeignModule, path: str, rows: int, columns: int | None = None) -> Tensor:
        """One of the five, of a shape that broadcasts to [rows, columns], or to [rows] without columns."""
        shape = (rows,) if columns is None else (rows, columns)
        if f"glora_{path}.Xd" in module.parts and columns is not None:
            down = take(module, f"glora_{path}.Xd", rows, -1)
            return down @ take(module, f"glora_{path}.Xu", down.shape[1], columns)
        if f"glora_{path}.X" not in module.parts:
            return torch.zeros(shape, dtype=torch.float64)
        if module.parts[f"glora_{path}.X"].numel() == 1:
            return take(module, f"glora_{path}.X", 1).expand(shape)
        return take(module, f"glora_{path}.X", *shape[:1], *[1] * (len(shape) - 1))


class DEFT:
    """`Q (s R - P^T W)`, s = alpha / r or 1: W loses what lies in the span of P and gets R there; `para` only loses."""

    name = "DEFT"
    reads = frozenset({"deft_P", "deft_R"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        P = take(module, "deft_P", out, -1)
        rank = P.shape[1]
        Q, right = self._projected(module, P)
        replaced = -right.T @ module.weight
        if not flag(module.config, "para"):
            alpha = number(module.config, "alpha", 0) if module.config.get("alpha") else rank
            replaced = alpha / rank * take(module, "deft_R", rank, inputs) + replaced
        return factors(module, Q, replaced)

    def _projected(self, module: ForeignModule, P: Tensor) -> tuple[Tensor, Tensor]:
        match module.config.get("decomposition_method", "relu"):
            case "relu":
                return P, P.relu()
            case "qr":
                Q = torch.linalg.qr(P.float())[0].double()
                return Q, Q
            case other:
                raise AdapterUnsupported(
                    f"{module.name}: found DEFT with decomposition_method {str(other)[:40]!r}, expected relu or qr. "
                    + MERGE
                )


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "linear": lambda x: x,
}
"""`act_fn` of PEANuT by the names of transformers."""


class PEANuT:
    """`s (f(W^T A^T) B^T)^T`: a small network f with residual layers computes the factors of low rank from W."""

    name = "PEANuT"
    reads = frozenset(
        {"peanut_A.weight", "peanut_B.weight"}
        | {f"peanut_{half}.{layer}.weight" for half in ("encoders", "decoders") for layer in range(64)}
    )

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, _ = linear(module, self.name)
        act = str(module.config.get("act_fn", "relu"))[:40]
        if act not in ACTIVATIONS:
            raise AdapterUnsupported(
                f"{module.name}: found PEANuT with act_fn {act!r}, expected one of {', '.join(ACTIVATIONS)}. {MERGE}"
            )
        bend = ACTIVATIONS[act]
        B = take(module, "peanut_B.weight", out, -1)
        rank = B.shape[1]
        hidden = bend(module.weight.T @ take(module, "peanut_A.weight", rank, out).T)  # [in, r]
        residuals: list[Tensor] = []
        while f"peanut_encoders.{len(residuals)}.weight" in module.parts:
            encoder = take(module, f"peanut_encoders.{len(residuals)}.weight", rank, rank)
            residuals.append(hidden)
            hidden = bend(hidden @ encoder.T)
        for layer, residual in enumerate(reversed(residuals)):
            hidden = bend(hidden @ take(module, f"peanut_decoders.{layer}.weight", rank, rank).T) + residual
        return factors(module, number(module.config, "scaling", 1.0) * B, hidden.T)


class OSF:
    """The smallest singular values of W with their vectors are replaced by trained ones: `U S V - U_0 S_0 V_0`."""

    name = "OSF"
    reads = frozenset({"osf_svd_params.U_low", "osf_svd_params.S_low", "osf_svd_params.V_low"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        U = take(module, "osf_svd_params.U_low", out, -1)
        kept = min(out, inputs) - U.shape[1]
        if kept < 0:
            raise misfit(module, "osf_svd_params.U_low", f"{U.shape[1]} singular values")
        U = U * take(module, "osf_svd_params.S_low", 1, U.shape[1])
        V = take(module, "osf_svd_params.V_low", U.shape[1], inputs)
        U_0, S_0, V_0 = (tensor.double() for tensor in torch.linalg.svd(module.weight.float(), full_matrices=False))
        return factors(module, torch.cat([U, -U_0[:, kept:] * S_0[kept:]], dim=1), torch.cat([V, V_0[kept:]]))


class FRoD:
    """`U (S + diag(l)) V^T` replaces W: V is shared by layers of one kind, `W = U diag(l_0) V^T`, S is sparse."""

    name = "FRoD"
    reads = frozenset({"frod_lambda_l", "frod_lambda_s_values"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        _, inputs = linear(module, self.name)
        kind = self._kind(str(module.config.get("module", module.name)))
        V, places = self._shared(module, f"frod_V.{kind}"), self._shared(module, f"frod_s_indices.{kind}")
        stored = module.parts.get("frod_lambda_s_values")
        none = stored is not None and not stored.numel()  # with a sparse_rate of 0
        values = torch.zeros(0, dtype=torch.float64) if none else take(module, "frod_lambda_s_values", -1)
        if V.shape != (inputs, inputs) or places.shape != (2, len(values)) or not torch.isfinite(V).all():
            raise misfit(module, f"frod_V.{kind}", f"{list(V.shape)} and places of {list(places.shape)}")
        rows, columns = places.long()
        if len(values) and (int(places.min()) < 0 or int(places.max()) >= inputs):
            raise misfit(module, f"frod_s_indices.{kind}", f"places up to {int(places.max())}")
        inner = torch.diag(take(module, "frod_lambda_l", inputs))
        inner = inner.index_put((rows, columns), values, accumulate=True)
        return {"weight.delta": self._rotation(V.double(), module.weight) @ inner @ V.double().T - module.weight}

    def _rotation(self, V: Tensor, W: Tensor) -> Tensor:
        """U: `W V^-T` with columns of length 1, rounded to float32 as PEFT does."""
        try:
            whole = torch.linalg.solve(V, W.T).T
        except RuntimeError:  # V is singular
            whole = W @ torch.linalg.pinv(V, rtol=1e-6).T
        lengths = whole.norm(dim=0)
        return torch.where(lengths > 1e-12, whole / lengths.clamp(min=1e-12), 0).float().double()

    def _shared(self, module: ForeignModule, name: str) -> Tensor:
        if name not in module.shared:
            raise AdapterInvalid(
                f"{module.name}: found no tensor {name[:120]}, which layers of one kind share, expected it in the "
                f"file: PEFT writes it with save_projection=True. {MERGE}",
                code="adapter_incomplete",
            )
        return module.shared[name]

    @staticmethod
    def _kind(path: str) -> str:
        """PEFT's name for all layers that do the same in different blocks, from the end of the module's path."""
        parts = path.split(".")
        if len(parts) == 1 or parts[-2].isdigit():
            return parts[-1]
        kind = f"{parts[-2]}_{parts[-1]}"
        return "attention_output" if kind == "output_dense" and parts[-3:-2] == ["attention"] else kind
