"""The kernel of `product.OnePass`, written as LLVM's intermediate code and compiled for the processor at hand.

Eight columns at a time: the product is summed in a register while the base is on its way from memory, and the base is
added last. LLVM turns vectors of eight into what the processor has (AVX2, AVX-512, NEON) and products with sums into
fused multiply-adds. Eight rows at a time load each of A's vectors once for all of them; the processor fetches short
rows better one by one. Beside a copy, rank 8: rows of 2,304 and 4,608 weights 1.02 by eights and 1.17 one by one; rows
of 112 to 1,152 weights 1.35 and 1.06.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

LANES, FLOAT_BYTES = 8, 4
FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
FUSED = ("contract",)  # a multiplication and an addition may become one; nothing is reordered

Kernel = Callable[[int, int, int, int, float, int, int], None]


def compiled(rank: int, at_a_time: int) -> Kernel:
    """`kernel(base, B, A, live, scale, rows, columns)`: four pointers to contiguous float32, `live` overlaps no other.

    base, live: [rows, columns]; B: [rows, rank], taken `scale` times; A: [rank, columns]. `at_a_time`: rows, a power
    of two.
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
    """One for each engine, which owns it and frees it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(llvm.get_host_cpu_name(), features, opt=3)


def _module(rank: int, at_a_time: int) -> ir.Module:
    module = ir.Module()
    pointers, numbers = [FLOAT.as_pointer()] * 4, [INT64] * 2
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, FLOAT, *numbers]), "write")
    base, B, A, live, scale, rows, columns = function.args
    for pointer in (base, B, A, live):
        pointer.add_attribute("noalias")
    code = ir.IRBuilder(function.append_basic_block())

    whole = code.and_(columns, INT64(-LANES))

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
        with _loop(code, INT64(0), whole, LANES) as column:
            write(column, VECTOR, factors, offsets)
        with _loop(code, whole, columns, 1) as column:
            write(column, FLOAT, factors, offsets)

    def write(column: Any, kind: Any, factors: list[list[Any]], offsets: list[Any]) -> None:
        def at(pointer: Any, start: Any) -> Any:
            return code.bitcast(code.gep(pointer, [code.add(start, column)]), kind.as_pointer())

        a = [code.load(at(A, code.mul(columns, INT64(k))), align=FLOAT_BYTES) for k in range(rank)]
        for own, offset in zip(factors, offsets, strict=True):
            b = [_in_all_lanes(code, factor) if kind is VECTOR else factor for factor in own]
            total = code.fmul(b[0], a[0])
            for k in range(1, rank):
                total = code.fadd(total, code.fmul(b[k], a[k], flags=FUSED), flags=FUSED)
            loaded = code.load(at(base, offset), align=FLOAT_BYTES)
            code.store(code.fadd(loaded, total), at(live, offset), align=FLOAT_BYTES)

    together = code.and_(rows, INT64(-at_a_time))
    with _loop(code, INT64(0), together, at_a_time) as row:
        write_rows(row, at_a_time)
    with _loop(code, together, rows, 1) as row:
        write_rows(row, 1)
    code.ret_void()
    return module


@contextmanager
def _loop(code: ir.IRBuilder, start: Any, stop: Any, step: int) -> Iterator[Any]:
    """`for (i = start; i < stop; i += step)`, yielding i."""
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
