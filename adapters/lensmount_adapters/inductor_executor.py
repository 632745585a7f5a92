"""Programs by TorchInductor, torch's own compiler: C++ on CPUs, Triton on GPUs, a minute or more at the first start.

`bind` casts and compiles nothing. Freezing, Inductor's way to make weights constant, took 5 to 11 s for each set of
weights and saved 4 % of the time (tf_efficientnet_lite0 from block 4 on, bfloat16, 16 images, one core with AMX).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx

from lensmount_adapters.cast import Cast
from lensmount_adapters.errors import BackboneError, ExecutorUnavailable

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
                "found no C++ compiler, expected one for the executor compile. Cure: apt-get install g++, or set CXX"
            )
        self.dtype = dtype
        self._device = torch.device(device)
        self._cache = cache

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> InductorCompiled:
        cast = Cast(module, weights, self._device, self.dtype)
        compiled = InductorCompiled(cast, torch.compile(cast.module))
        with _kept_in(self._cache):
            try:
                compiled.warm_up(inputs, weights)
            except Exception as error:  # Inductor runs the model's own code and a compiler
                raise BackboneError(
                    f"TorchInductor cannot compile this backbone: {' '.join(str(error).split())[:400]}. "
                    "Cure: the executor eager"
                ) from error
        return compiled


@dataclass(frozen=True, slots=True, eq=False)
class InductorCompiled:
    """Made by Inductor.compile. A compiled function guards its inputs' layout and kind, so they are always copied."""

    cast: Cast
    call: Callable[..., Tensor]

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        return self.call(*self.cast.inputs(inputs, copied=True), *self.cast.weights(weights, copied=True))

    @torch.inference_mode()
    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> InductorProgram:
        return InductorProgram(self, self.cast.weights(weights, copied=True), self.cast.nbytes(weights))

    @torch.inference_mode()
    def warm_up(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        """Compile for any batch and image size, and for the batch of one, which torch takes for a case of its own."""
        for images in (2, 1):
            given = self.cast.inputs([x[:1].expand(images, *x.shape[1:]) for x in inputs], copied=True)
            for x in given:
                for dim in range(x.ndim):
                    torch._dynamo.maybe_mark_dynamic(x, dim)
            self.call(*given, *self.cast.weights(weights))


@dataclass(frozen=True, slots=True, eq=False)
class InductorProgram:
    compiled: InductorCompiled
    weights: tuple[Tensor, ...]
    nbytes: int

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.compiled.call(*self.compiled.cast.inputs(inputs, copied=True), *self.weights)


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
