"""One launch adds the low-rank terms of a batch in which every sample has its own adapter: `y_n + B_n (A_n * x_n)`.

`A_n *` is a convolution or, with a kernel of one position, a matrix product; samples look their factors up in a table
with a slot for each adapter (SGMV of Punica, arXiv 2310.18547, and an implicit GEMM for the convolution). torch needs
four launches and copies of the factors. runners/mixed_ops.py has the same functions in torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

POSITIONS, OUTPUTS, INPUTS = tl.constexpr(32), tl.constexpr(64), tl.constexpr(32)  # of a block
LEAST_RANK = 16  # of a matrix product on tensor cores; smaller ranks are padded with zeros


@dataclass(frozen=True, slots=True)
class Geometry:
    """Two numbers each, for rows and columns."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


def add_low_rank(y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, geometry: Geometry) -> Tensor:
    """Sample n with slot `rows[n]`: y [N, out, h, w], x [N, in, H, W], A [slots, r, in, kh, kw], B [slots, out, r].

    Any strides. The products are summed in float32, and the reduced term has the dtype of the factors.
    """
    out = torch.empty_like(y)
    samples, outputs, height, width = y.shape
    rank, inputs = A.shape[1:3]
    grid = (samples, triton.cdiv(height * width, POSITIONS.value), triton.cdiv(outputs, OUTPUTS.value))
    _add[grid](
        (y, x, A, B, rows, out),
        tuple(tuple(tensor.stride()) for tensor in (x, y, out, A, B)),
        (*x.shape[2:], height, width, inputs, outputs, rank, *A.shape[3:]),
        (*geometry.stride, *geometry.padding, *geometry.dilation),
        RANK=max(LEAST_RANK, triton.next_power_of_2(rank)),
    )
    return out


@triton.jit  # type: ignore[untyped-decorator]  # triton's
def _add(tensors, strides, sizes, geometry, RANK: tl.constexpr):  # type: ignore[no-untyped-def]  # compiled by triton
    y, x, A, B, rows, out = tensors
    (x_n, x_c, x_h, x_w), (y_n, y_c, y_h, y_w), (out_n, out_c, out_h, out_w) = strides[0], strides[1], strides[2]
    (a_slot, a_r, a_c, a_h, a_w), (b_slot, b_o, b_r) = strides[3], strides[4]
    H, W, height, width, inputs, outputs, rank, kernel_h, kernel_w = sizes
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w = geometry
    n = tl.program_id(0).to(tl.int64)
    slot = tl.load(rows + n).to(tl.int64)
    position = tl.program_id(1) * POSITIONS + tl.arange(0, POSITIONS)
    o = tl.program_id(2) * OUTPUTS + tl.arange(0, OUTPUTS)
    r = tl.arange(0, RANK)
    at_h, at_w = position // width, position % width
    wanted = position < height * width
    hidden = tl.full((POSITIONS, RANK), 0.0, tl.float32)  # tl.zeros is no builtin, so the interpreter lacks it
    for tap_h in range(kernel_h):
        for tap_w in range(kernel_w):
            h = at_h * stride_h - padding_h + tap_h * dilation_h
            w = at_w * stride_w - padding_w + tap_w * dilation_w
            inside = wanted & (h >= 0) & (h < H) & (w >= 0) & (w < W)
            for first in range(0, inputs, INPUTS):
                c = first + tl.arange(0, INPUTS)
                read = x + n * x_n + (h * x_h + w * x_w)[:, None] + c[None, :] * x_c
                seen = tl.load(read, mask=inside[:, None] & (c < inputs)[None, :], other=0.0)
                read = A + slot * a_slot + r[None, :] * a_r + c[:, None] * a_c + tap_h * a_h + tap_w * a_w
                factor = tl.load(read, mask=(c < inputs)[:, None] & (r < rank)[None, :], other=0.0)
                hidden += tl.dot(seen, factor, input_precision="ieee")
    read = B + slot * b_slot + o[None, :] * b_o + r[:, None] * b_r
    factor = tl.load(read, mask=(r < rank)[:, None] & (o < outputs)[None, :], other=0.0)
    added = tl.dot(hidden.to(factor.dtype), factor, input_precision="ieee")
    kept = wanted[:, None] & (o < outputs)[None, :]
    before = tl.load(y + n * y_n + (at_h * y_h + at_w * y_w)[:, None] + o[None, :] * y_c, mask=kept, other=0.0)
    write = out + n * out_n + (at_h * out_h + at_w * out_w)[:, None] + o[None, :] * out_c
    tl.store(write, (before + added).to(before.dtype), mask=kept)
