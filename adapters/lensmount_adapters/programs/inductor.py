"""Programs by TorchInductor, torch's own compiler: C++ on CPUs, Triton on GPUs, a minute or more at the first start.

`bind` casts and compiles nothing. Freezing, Inductor's way to make weights constant, took 5 to 11 s for each set of
weights and saved 4 % of the time (tf_efficientnet_lite0 from block 4 on, bfloat16, 16 images, one core with AMX).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, fx

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.programs.cast import Cast
from lensmount_adapters.programs.eager import TorchCompiled

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


class Inductor:
    """`Inductor("cpu", torch.bfloat16, cache=Path("programs")).compile(module, inputs, weights, key="")`.

    Inductor keeps its programs by what it compiles, so a `key` says nothing more. Raises ExecutorUnavailable where
    there is no C++ compiler.
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
        compiled = TorchCompiled(cast, torch.compile(cast.module), copies=True)  # it guards its inputs' layout and kind
        with _kept_in(self._cache):
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
    """Compile for any batch and image size, and for the batch of one, which torch takes for a case of its own."""
    for images in (2, 1):
        given = compiled.inputs([x[:1].expand(images, *x.shape[1:]) for x in inputs])
        for x in given:
            for dim in range(x.ndim):
                torch._dynamo.maybe_mark_dynamic(x, dim)
        compiled.call(*given, *compiled.cast.weights(weights))


_environment = threading.Lock()


@contextmanager
def _kept_in(cache: Path | None) -> Iterator[None]:
    """Inductor asks the environment for its cache, and writes the default, in /tmp, into it where there is none."""
    if cache is None:
        yield
        return
    with _environment:
        before = os.environ.get(CACHE_VARIABLE)
        os.environ[CACHE_VARIABLE] = str(cache / "inductor")
        try:
            yield
        finally:
            os.environ.pop(CACHE_VARIABLE)
            if before is not None:
                os.environ[CACHE_VARIABLE] = before
