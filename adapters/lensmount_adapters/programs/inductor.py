"""Programs by TorchInductor, torch's own compiler: C++ on CPUs, Triton on GPUs; a minute or more at the first start.

`bind` casts the weights and compiles nothing. Freezing, which makes weights constant in Inductor, took 5 to 11 s per
set of weights and saved 4 % of the time (tf_efficientnet_lite0 from block 4 on, bfloat16, 16 images, one AMX core).

Only choose.py knows this file, and only by its name. Without the file the executor `compile` is not offered.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, fx

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.programs.cast import Cast
from lensmount_adapters.programs.eager import TorchCompiled
from lensmount_adapters.programs.inductor_cache import in_cache


class Inductor:
    """`Inductor("cpu", torch.bfloat16, cache=Path("programs")).compile(module, inputs, weights, key="")`.

    Inductor's cache is keyed by what it compiles, so it ignores `key`. Raises ExecutorUnavailable if no C++ compiler is
    found.
    """

    name = "compile"

    def __init__(
        self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, cache: Path | None = None
    ) -> None:
        if not any(name and shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "c++")):
            raise ExecutorUnavailable(
                "found no C++ compiler, expected one for the executor compile. Fix: apt-get install g++, or set CXX"
            )
        self.dtype = dtype
        self._device = torch.device(device)
        self._cache = cache

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> TorchCompiled:
        cast = Cast(module, weights, self._device, self.dtype)
        compiled = TorchCompiled(
            cast, torch.compile(cast.module), copies=True
        )  # torch.compile checks the layout and the class of its inputs
        with in_cache(self._cache):
            try:
                _warm_up(compiled, inputs, weights)
            except Exception as error:  # Inductor runs the model's own code and a compiler
                raise BackboneError(
                    f"TorchInductor cannot compile this backbone: {' '.join(str(error).split())[:400]}. "
                    "Fix: the executor eager"
                ) from error
        return compiled


@torch.inference_mode()
def _warm_up(compiled: TorchCompiled, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Compile for any batch and image size, and for a batch of one, which torch treats as a special case."""
    for images in (2, 1):
        examples = compiled.inputs([x[:1].expand(images, *x.shape[1:]) for x in inputs])
        for x in examples:
            for dim in range(x.ndim):
                torch._dynamo.maybe_mark_dynamic(x, dim)
        compiled.call(*examples, *compiled.cast.weights(weights))
