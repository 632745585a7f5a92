"""One-pass kernels for `live = base + scale * B @ A`, written as LLVM IR and compiled for this processor.

A kernel computes eight columns at a time. It sums the product in a register while the base is being loaded from memory,
and adds the base last. LLVM maps vectors of eight to what the processor has (AVX2, AVX-512, NEON) and turns products
with sums into fused multiply-adds. A kernel for eight rows at a time loads each vector of A once for all eight; for
short rows the processor prefetches better one row at a time. Time relative to a copy, rank 8:

| columns in a row | eight rows at a time | one row at a time |
|---|---|---|
| 2,304 and 4,608 | 1.02 | 1.17 |
| 112 to 1,152 | 1.35 | 1.06 |

delta/addmm.py is the only caller. It knows this file by the protocol `AddmmKernel` and works without it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from torch import Tensor
from torch.nn import functional as F

LONG_ROWS = 2048  # columns; rows of this length and longer are computed eight at a time
LANES, FLOAT_BYTES = 8, 4
FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
FUSED = ("contract",)  # a multiplication and an addition may become one operation; nothing is reordered
MADV_PAGEOUT = 21  # <linux/mman.h>; a kernel before 5.4 refuses it, and nothing happens

Kernel = Callable[[int, int, int, int, float, int, int], None]


class OnePassAddmm:
    """`OnePassAddmm(rank).planned(base, B, A, scale, live)()`, with the shapes of `addmm.planned_product`.

    It computes ranks up to `rank`. All tensors are float32, contiguous and on the CPU.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._short, self._long = compiled(rank, 1), compiled(rank, 8)
        page_out("libllvmlite")

    def planned(self, base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> Callable[[], None]:
        rows = base.shape[0]
        columns = base.numel() // rows
        if missing := self._rank - B.shape[1]:
            B, A = F.pad(B.view(rows, -1), (0, missing)), F.pad(A.view(-1, columns), (0, 0, 0, missing))
        kernel = self._long if columns >= LONG_ROWS else self._short
        tensors = (base, B, A, live)
        return partial(_call, kernel, tensors, *(tensor.data_ptr() for tensor in tensors), scale, rows, columns)


def _call(kernel: Callable[..., None], tensors: tuple[Tensor, ...], *arguments: Any) -> None:
    """Call the kernel. `tensors` own the memory that the arguments point to; the plan keeps them alive until now."""
    kernel(*arguments)


def compiled(rank: int, at_a_time: int) -> Kernel:
    """Compile `kernel(base, B, A, live, scale, rows, columns)`.

    The first four are pointers to contiguous float32 numbers: base and live [rows, columns], B [rows, rank], which is
    multiplied by `scale`, and A [rank, columns]. `live` overlaps no other. `at_a_time` is a number of rows, a power of
    two.
    """
    machine = _machine()
    module = llvm.parse_assembly(str(_module(rank, at_a_time)))
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_float, *[ctypes.c_int64] * 2)(
        engine.get_function_address("write")
    )
    kernel.engine = engine  # type: ignore[attr-defined]  # the code lives as long as its engine
    return kernel


def _machine() -> Any:
    """A new one per engine; the engine owns it and frees it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(llvm.get_host_cpu_name(), features, opt=3)


def _module(rank: int, at_a_time: int) -> ir.Module:
    module = ir.Module()
    pointers, sizes = [FLOAT.as_pointer()] * 4, [INT64] * 2
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, FLOAT, *sizes]), "write")
    base, B, A, live, scale, rows, columns = function.args
    for pointer in (base, B, A, live):
        pointer.add_attribute("noalias")
    code = ir.IRBuilder(function.append_basic_block())

    full_vectors = code.and_(columns, INT64(-LANES))  # the columns that fill vectors; the rest goes one by one

    def write_rows(start: Any, count: int) -> None:
        numbers = [code.add(start, INT64(number)) for number in range(count)]
        factors = [
            [
                code.fmul(code.load(code.gep(B, [code.add(code.mul(n, INT64(rank)), INT64(k))])), scale)
                for k in range(rank)
            ]
            for n in numbers
        ]
        offsets = [code.mul(n, columns) for n in numbers]
        with _loop(code, INT64(0), full_vectors, LANES) as column:
            write(column, VECTOR, factors, offsets)
        with _loop(code, full_vectors, columns, 1) as column:
            write(column, FLOAT, factors, offsets)

    def write(column: Any, kind: Any, factors: list[list[Any]], offsets: list[Any]) -> None:
        def at(pointer: Any, start: Any) -> Any:
            return code.bitcast(code.gep(pointer, [code.add(start, column)]), kind.as_pointer())

        a = [code.load(at(A, code.mul(columns, INT64(k))), align=FLOAT_BYTES) for k in range(rank)]
        for row_factors, offset in zip(factors, offsets, strict=True):
            b = [_in_all_lanes(code, factor) if kind is VECTOR else factor for factor in row_factors]
            total = code.fmul(b[0], a[0])
            for k in range(1, rank):
                total = code.fadd(total, code.fmul(b[k], a[k], flags=FUSED), flags=FUSED)
            loaded = code.load(at(base, offset), align=FLOAT_BYTES)
            code.store(code.fadd(loaded, total), at(live, offset), align=FLOAT_BYTES)

    full_groups = code.and_(rows, INT64(-at_a_time))
    with _loop(code, INT64(0), full_groups, at_a_time) as row:
        write_rows(row, at_a_time)
    with _loop(code, full_groups, rows, 1) as row:
        write_rows(row, 1)
    code.ret_void()
    return module


@contextmanager
def _loop(code: ir.IRBuilder, start: Any, stop: Any, step: int) -> Iterator[Any]:
    """The loop `for (i = start; i < stop; i += step)`, yielding i."""
    before = code.block
    head, body, after = (code.append_basic_block() for _ in range(3))
    code.branch(head)
    code.position_at_end(head)
    number = code.phi(INT64)
    number.add_incoming(start, before)
    code.cbranch(code.icmp_signed("<", number, stop), body, after)
    code.position_at_end(body)
    yield number
    number.add_incoming(code.add(number, INT64(step)), code.block)
    code.branch(head)
    code.position_at_end(after)


def _in_all_lanes(code: ir.IRBuilder, number: Any) -> Any:
    undefined = ir.Constant(VECTOR, ir.Undefined)
    lanes = ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES)
    return code.shuffle_vector(code.insert_element(undefined, number, INT32(0)), undefined, lanes)


def page_out(library: str) -> None:
    """Give the memory of a loaded library back to the system: LLVM's is 75 MB, for two kernels of a kilobyte.

    Nothing is lost: pages that are needed again are read from the library's file. Linux only; elsewhere they stay.
    """
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            if library in line:
                start, end = (int(number, 16) for number in line.split(maxsplit=1)[0].split("-"))
                advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_PAGEOUT)
