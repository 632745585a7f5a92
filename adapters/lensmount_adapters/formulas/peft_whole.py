"""The methods of PEFT that scale rows or columns, or write single numbers, frequencies or circulant tiles of a weight.

Sources: IA3, arXiv 2205.05638; SHiRA, arXiv 2406.13175; Super-Tuning, arXiv 2607.09287; FourierFT, arXiv 2405.03003;
C3A, arXiv 2407.19342; BEFT, arXiv 2509.15974.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import sizes, take
from lensmount_adapters.formulas.peft_config import generator, number
from lensmount_adapters.formulas.peft_low_rank import linear, misfit
from lensmount_adapters.formulas.peft_products import cube


class IA3:
    """A factor for each output, of the weight and the bias, or for each input in what the config calls feedforward."""

    name = "IA3"
    reads = frozenset({"ia3_l"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, kernel = sizes(module)
        if not module.config.get("feedforward"):
            scale = take(module, "ia3_l", *((1, out) if kernel else (out, 1))).flatten()
            return {"weight.row_scale": scale} | (
                {} if module.bias is None else {"bias.delta": module.bias * (scale - 1)}
            )
        scale = take(module, "ia3_l", 1, inputs * module.groups).flatten()
        if module.groups == 1:
            return {"weight.column_scale": scale}
        each = scale.reshape(module.groups, 1, inputs).expand(-1, out // module.groups, -1).reshape(out, inputs)
        return {"weight.delta": module.weight * (each.reshape(out, inputs, *[1] * len(kernel)) - 1)}


class SHiRA:
    """Single elements of the weight: `D[i, j] = w`. An element that is named twice gets both."""

    name = "SHiRA"
    reads = frozenset({"shira_weight", "shira_indices"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        values = take(module, "shira_weight", -1)
        places = take(module, "shira_indices", 2, len(values)).long()  # float32 in files from Windows
        rows, columns = places
        if int(places.min()) < 0 or int(rows.max()) >= out or int(columns.max()) >= inputs:
            raise misfit(module, "shira_indices", f"places up to [{int(rows.max())}, {int(columns.max())}]")
        delta = torch.zeros(out, inputs, dtype=torch.float64)
        return {"weight.delta": delta.index_put((rows, columns), values, accumulate=True)}


class SuperTuning:
    """Single elements of the weight by their places in its rows one after the other, and LoRA if the file has it."""

    name = "Super-Tuning"
    reads = frozenset(
        {
            "supertuning_values",
            "supertuning_indices",
            "supertuning_lora_A.weight",
            "supertuning_lora_B.weight",
        }
    )

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        values = take(module, "supertuning_values", -1)
        places = take(module, "supertuning_indices", len(values)).long()
        if int(places.min()) < 0 or int(places.max()) >= out * inputs:
            raise misfit(module, "supertuning_indices", f"places up to {int(places.max())}")
        delta = torch.zeros(out * inputs, dtype=torch.float64)
        delta = delta.index_put((places,), values, accumulate=True).reshape(out, inputs)
        if "supertuning_lora_B.weight" in module.parts:
            B = take(module, "supertuning_lora_B.weight", out, -1)
            A = take(module, "supertuning_lora_A.weight", B.shape[1], inputs)
            delta = delta + number(module.config, "lora_alpha") / B.shape[1] * (B @ A)
        return {"weight.delta": delta}


class BEFT:
    """A vector that is added to the bias."""

    name = "BEFT"
    reads = frozenset({"beft_bias"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, _ = linear(module, self.name)
        if module.bias is None:
            raise lacks_bias(module)
        return {"bias.delta": take(module, "beft_bias", 1, out).flatten()}


def spread(module: ForeignModule, part: str, shape: tuple[int, int]) -> Tensor:
    """The numbers of a part at the places of a matrix [out, in] that PEFT drew from the seed; zeros elsewhere."""
    out, inputs = shape
    values = take(module, part, -1)
    if len(values) > out * inputs:
        raise misfit(module, part, f"{len(values)} coefficients")
    draw = generator(module.config, "random_loc_seed", 777)
    matrix = torch.zeros(out * inputs, dtype=torch.float64)
    matrix[torch.randperm(out * inputs, generator=draw)[: len(values)]] = values
    return matrix.reshape(out, inputs)


class FourierFT:
    """`scaling * Re(ifft2(S))`: S holds the file's numbers at places that a seed determines."""

    name = "FourierFT"
    reads = frozenset({"fourierft_spectrum"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        spectrum = spread(module, "fourierft_spectrum", linear(module, self.name))
        delta = torch.fft.ifft2(spectrum).real
        return {"weight.delta": number(module.config, "scaling", 150.0) * delta}


class C3A:
    """Circulant tiles: `D[o b + p, i b + q] = K[o, i, (q - p) mod b] / in`."""

    name = "C3A"
    reads = frozenset({"c3a_kernel"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs = linear(module, self.name)
        size = cube(module.parts, "c3a_kernel").shape[2]
        if out % size or inputs % size:
            raise misfit(module, "c3a_kernel", f"tiles of {size} rows and columns")
        K = take(module, "c3a_kernel", out // size, inputs // size, size)
        p, q = torch.arange(size)[:, None], torch.arange(size)[None, :]
        tiles = K[:, :, (q - p) % size]  # [out / b, in / b, p, q]
        return {"weight.delta": tiles.transpose(1, 2).reshape(out, inputs) / inputs}


class Whole:
    """Weights stored as they are after training (LN_TUNING, modules_to_save, bias): the difference is added."""

    name = "whole tensors"
    reads = frozenset({"weight", "bias"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        deltas: dict[str, Tensor] = {}
        if "weight" in module.parts:
            deltas["weight.delta"] = take(module, "weight", *module.weight.shape) - module.weight
        if "bias" in module.parts:
            if module.bias is None:
                raise lacks_bias(module)
            deltas["bias.delta"] = take(module, "bias", *module.bias.shape) - module.bias
        return deltas


def lacks_bias(module: ForeignModule) -> AdapterInvalid:
    return AdapterInvalid(
        f"{module.name}: found a bias, but the backbone's module has none. Fix: import it for the backbone "
        "that it was trained on",
        code="adapter_shape_mismatch",
    )
