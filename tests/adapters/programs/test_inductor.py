"""TorchInductor: its cache is where it was told to be, and a missing compiler is an error with a fix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.programs.inductor import Inductor


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
