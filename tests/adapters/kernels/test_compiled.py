"""Triton's compiler takes the kernels for an H100, on a machine without a GPU; float32 products are not TF32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SOURCES = {
    "grouped_merge": ("_merge", {"tiles": "*i32", "layers": "*i64"}),
    "mixed_low_rank": (
        "_add",
        {
            "tensors": ("*T", "*T", "*T", "*T", "*i64", "*T"),
            "strides": (("i32",) * 4, ("i32",) * 4, ("i32",) * 4, ("i32",) * 5, ("i32",) * 3),
            "sizes": ("i32",) * 9,
            "geometry": ("i32",) * 6,
        },
    ),
}


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SOURCES)
def test_a_kernel_compiles_for_an_h100(name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")
    compiler, targets = pytest.importorskip("triton.compiler"), pytest.importorskip("triton.backends.compiler")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = pytest.importorskip(f"lensmount_adapters.kernels.{name}")
    function, signature = SOURCES[name]
    live = {"fp32": triton.language.float32, "bf16": triton.language.bfloat16}[dtype]
    constants: dict[str, Any] = {"RANK": 16} if function == "_add" else {"LIVE": live, "ROWS": 16, "COLUMNS": 128}
    source = compiler.ASTSource(getattr(module, function), typed(signature, dtype), constexprs=constants)
    ptx = triton.compile(source, target=targets.GPUTarget("cuda", 90, 32)).asm["ptx"]

    assert "tf32" not in ptx
    assert ("mma" in ptx) == (function == "_add" and dtype == "bf16")


def typed(types: Any, dtype: str) -> Any:
    """The signature with `*T` as pointers to this dtype."""
    if isinstance(types, str):
        return types.replace("T", dtype)
    return (
        {k: typed(v, dtype) for k, v in types.items()}
        if isinstance(types, dict)
        else tuple(typed(t, dtype) for t in types)
    )
