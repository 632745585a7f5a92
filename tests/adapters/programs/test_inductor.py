"""TorchInductor: its cache is in the given folder, it needs a compiler, and its file is optional."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.programs.choose import choose_executor, executor_names
from lensmount_adapters.programs.inductor import Inductor


@pytest.mark.usefixtures("quick_inductor")
def test_a_second_inductor_with_the_same_cache_compiles_nothing(tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    def linear(x: Tensor, matrix: Tensor) -> Tensor:
        return F.relu(F.linear(x, matrix)) + 1

    def compiled() -> dict[str, int]:
        torch.compiler.reset()
        counters.clear()
        try:
            Inductor("cpu", cache=tmp_path).compile(
                fx.symbolic_trace(linear), (torch.ones(3, 4),), (torch.ones(5, 4),), ""
            )
        except ExecutorUnavailable as error:
            pytest.skip(str(error))
        return {name: counters["inductor"][f"fxgraph_cache_{name}"] for name in ("miss", "hit")}

    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    assert compiled()["hit"] == 0
    assert compiled()["miss"] == 0
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before
    assert (tmp_path / "inductor").is_dir()


def test_a_missing_compiler_is_an_error_with_a_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ExecutorUnavailable, match=r"found no C\+\+ compiler.*Fix: apt-get install g\+\+"):
        Inductor()


def test_it_is_chosen_by_its_name(tmp_path: Path) -> None:
    chosen = choose_executor("compile", "bfloat16", "cpu", threads=1, cache=tmp_path)
    assert isinstance(chosen, Inductor)
    assert (chosen.name, chosen.dtype) == ("compile", torch.bfloat16)


def test_without_its_file_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert executor_names() == ("auto", "eager", "openvino", "onnxruntime", "compile", "cudagraphs", "autotune")
    monkeypatch.setitem(sys.modules, Inductor.__module__, None)  # as if the file had been deleted
    assert executor_names() == ("auto", "eager", "openvino", "onnxruntime", "cudagraphs", "autotune")
    with pytest.raises(
        ExecutorUnavailable, match=r"found executor 'compile' .* expected one of auto, eager, openvino,"
    ):
        choose_executor("compile", "float32", "cpu", threads=1, cache=None)
    assert choose_executor("eager", "float32", "cpu", threads=1, cache=None).name == "eager"
