"""timm without TorchDynamo: what is imported, and what works as before once something needs TorchDynamo."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lensmount_adapters.light_timm import _disable

IN_ITS_OWN_PROCESS = """
import sys
import torch
from lensmount_adapters.light_timm import import_timm

before = torch.compiler.disable
import_timm()
import lensmount_service.server
assert "timm" in sys.modules and torch.compiler.disable is before
assert not {"sympy", "torch._dynamo", "torch._dynamo.utils"} & sys.modules.keys()

# the mean of the quarter of an image that a box covers, by torchvision's function that asks TorchDynamo
from torchvision.ops import roi_align
image = torch.arange(16.0).reshape(1, 1, 4, 4)
box = torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0]])
assert roi_align(image, box, 1, sampling_ratio=2, aligned=True).item() == image[..., :2, :2].mean().item()
assert torch._dynamo.utils.is_compile_supported("cpu") in (True, False)
import_timm()
"""


def test_nothing_imports_torchdynamo_until_it_is_needed_and_then_it_works() -> None:
    subprocess.run([sys.executable, "-c", IN_ITS_OWN_PROCESS], check=True)


def test_a_function_is_called_as_it_is_until_torchdynamo_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def real(function, recursive=True, *, reason=None):  # type: ignore[no-untyped-def]
        asked.append((function, recursive, reason))
        return lambda x: -function(x)

    def double(x: int) -> int:
        return 2 * x

    later = _disable(real, recursive=False, reason="test")(double)
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    assert (later(4), asked, later.__name__) == (8, [], "double")
    monkeypatch.setitem(sys.modules, "torch._dynamo", torch)
    assert (later(4), later(5)) == (-8, -10)
    assert asked == [(double, False, "test")]
