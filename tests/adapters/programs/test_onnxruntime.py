"""ONNX Runtime: one session per image size, float32 alone, and its packages and its file are optional."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
import torch
from torch import fx, nn

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.programs import onnxruntime
from lensmount_adapters.programs.choose import choose_executor, executor_names
from lensmount_adapters.programs.onnxruntime import KEPT_SESSIONS, OnnxRuntime


def test_a_program_keeps_the_sessions_of_the_sizes_that_were_used_last(small_net: Any) -> None:
    pytest.importorskip("onnxruntime")
    program = (
        OnnxRuntime()
        .compile(small_net.module(), small_net.inputs(2), small_net.weights(0), "")
        .bind(small_net.weights(1), [x.shape for x in small_net.inputs()])
    )
    first = next(iter(program.sessions.values()))

    for width in range(15, 15 + KEPT_SESSIONS):
        program(*small_net.inputs(3, 14, 14))
        program(*small_net.inputs(2, 14, width))

    assert len(program.sessions) == KEPT_SESSIONS
    assert program.make_ready(((8, 14, 14), (10,))) is first
    assert ((8, 14, 15), (10,)) not in program.sessions


def test_a_module_that_cannot_be_exported_is_refused_with_a_fix() -> None:
    pytest.importorskip("onnxruntime")

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = torch.special.airy_ai(x)
            return result

    with pytest.raises(BackboneError, match=r"ONNX Runtime cannot take this backbone: .*Fix: the executor eager"):
        OnnxRuntime().compile(fx.symbolic_trace(Odd()), (torch.zeros(2, 3),), (), "")


def test_it_computes_on_a_cpu_in_float32_alone() -> None:
    pytest.importorskip("onnxruntime")
    assert isinstance(choose_executor("onnxruntime", "auto", "cpu", threads=1, cache=None), OnnxRuntime)
    for device, dtype in (("cpu", torch.bfloat16), ("cuda", torch.float32)):
        with pytest.raises(ExecutorUnavailable, match=r"expected cpu and float32 .*Fix: the executor auto"):
            OnnxRuntime(device, dtype)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_its_packages_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ModuleSpec("there", None)
    monkeypatch.setattr(onnxruntime, "find_spec", lambda name: None if name == missing else found)
    with pytest.raises(ExecutorUnavailable, match=rf"found no {missing}, .*'lensmount\[onnxruntime\]'"):
        OnnxRuntime()


def test_its_file_may_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "onnxruntime" in executor_names()
    monkeypatch.setitem(sys.modules, OnnxRuntime.__module__, None)  # as if the file had been deleted
    assert "onnxruntime" not in executor_names()
