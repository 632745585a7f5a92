"""WaveFT of PEFT: numbers in the wavelet domain of a weight, and the wavelets of Daubechies that lead back from it.

Sources: WaveFT, the code of PEFT 0.21.2; the filters, I. Daubechies, Ten Lectures on Wavelets, 1992, section 6.1.
"""

from __future__ import annotations

import math
import re

import numpy as np
import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.peft_config import flag, number
from lensmount_adapters.formulas.peft_low_rank import MERGE, linear
from lensmount_adapters.formulas.peft_whole import spread

MOST_MOMENTS = 10  # PEFT has no filters beyond db10


class WaveFT:
    """`scaling * inverse wavelet transform of S`: S holds the file's numbers at places that a seed determines."""

    name = "WaveFT"
    reads = frozenset({"waveft_spectrum"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        spectrum = spread(module, "waveft_spectrum", linear(module, self.name))
        spectrum *= number(module.config, "scaling", 25.0)
        if flag(module.config, "use_idwt", True):
            spectrum = inverse(spectrum, self._filter(module))
        return {"weight.delta": spectrum}

    def _filter(self, module: ForeignModule) -> Tensor:
        family = str(module.config.get("wavelet_family", "db1"))[:40]
        match = re.fullmatch(r"db([1-9]\d?)", family)
        if match is None or int(match[1]) > MOST_MOMENTS:
            raise AdapterUnsupported(
                f"{module.name}: found WaveFT with the wavelet {family!r}, expected one of db1 to db{MOST_MOMENTS}, "
                f"whose filters a formula gives. {MERGE}"
            )
        return daubechies(int(match[1]))


def inverse(spectrum: Tensor, low: Tensor) -> Tensor:
    """The inverse wavelet transform of one level of coefficients [out, in], as PEFT pads and crops it.

    The quarters of the padded coefficients are low and high frequencies; `low` is the low-pass filter [2 N]. PEFT pairs
    the upper right quarter with high frequencies of rows and the lower left one with those of columns.
    """
    out, inputs = spectrum.shape
    rows, columns = (size + len(low) - 2 + (size + len(low)) % 2 for size in (out, inputs))
    top, left = (rows - out) // 2, (columns - inputs) // 2
    padded = spectrum.new_zeros(rows, columns)
    padded[top : top + out, left : left + inputs] = spectrum
    high = low.flip(0) * torch.tensor([1.0, -1.0], dtype=low.dtype).repeat(len(low) // 2)
    (cA, cH), (cV, cD) = (half.chunk(2, dim=1) for half in padded.chunk(2))
    low_rows, high_rows = _synthesis(rows // 2, low), _synthesis(rows // 2, high)
    low_columns, high_columns = _synthesis(columns // 2, low), _synthesis(columns // 2, high)
    whole = (low_rows @ cA + high_rows @ cH) @ low_columns.T + (low_rows @ cV + high_rows @ cD) @ high_columns.T
    top, left = (whole.shape[0] - out) // 2, (whole.shape[1] - inputs) // 2
    return whole[top : top + out, left : left + inputs]


def daubechies(moments: int) -> Tensor:
    """The low-pass filter [2 N] of the orthogonal wavelet with N vanishing moments and the least phase.

    Half of the zeros of `sum_k binom(N - 1 + k, k) y^k` with y = (2 - z - 1/z) / 4 lie inside the unit circle; with N
    zeros at -1 they give the filter, whose sum is sqrt(2).
    """
    terms = [float(math.comb(moments - 1 + k, k)) for k in range(moments)]
    y = np.roots(terms[::-1]).astype(complex)
    middle = 1 - 2 * y  # (z + 1/z) / 2
    apart = np.sqrt(middle**2 - 1)
    inside = np.where(abs(middle + apart) < 1, middle + apart, middle - apart)
    coefficients = np.real(np.poly(np.concatenate([inside, -np.ones(moments)])))
    return torch.from_numpy(coefficients * (math.sqrt(2) / coefficients.sum()))


def _synthesis(half: int, taps: Tensor) -> Tensor:
    """The matrix [2 half + 2 - len(taps), half] that doubles the rate with these taps, without the borders."""
    matrix = taps.new_zeros(2 * half + len(taps) - 2, half)
    for column in range(half):
        matrix[2 * column : 2 * column + len(taps), column] = taps
    border = len(taps) - 2
    return matrix[border : len(matrix) - border]
