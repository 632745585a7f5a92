"""Tuned kernels are captured in the graphs whose weights can be replaced; the compiler has a stand-in here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fake_cuda import FakeCuda
from torch import fx

from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.programs.autotune import Autotuned
from lensmount_adapters.programs.inductor_cache import CACHE_VARIABLE


def test_what_is_captured_was_compiled_for_one_shape_without_graphs_of_its_own_and_cached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_net: Any
) -> None:
    cuda, asked, folders = FakeCuda.installed(monkeypatch), [], set()

    def compiled(module: fx.GraphModule, **options: object) -> Any:
        asked.append(options)

        def run(*tensors: torch.Tensor) -> torch.Tensor:
            folders.add(os.environ[CACHE_VARIABLE])
            output: torch.Tensor = module(*tensors)
            return output

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    executor = cuda.executor(of=Autotuned)
    executor._cache = tmp_path
    base, changed = small_net.weights(0), small_net.weights(1)
    made = executor.compile(small_net.module(), small_net.inputs(2), base, "")

    assert asked == [{"mode": "max-autotune-no-cudagraphs", "fullgraph": True, "dynamic": False}]
    assert folders == {str(tmp_path / "inductor")}
    expected = small_net.in_float64(small_net.inputs(3), changed)
    assert (made.bind(changed)(*small_net.inputs(3)).double() - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_it_needs_a_gpu() -> None:
    with pytest.raises(ExecutorUnavailable, match="for the executor autotune"):
        Autotuned("cpu")
