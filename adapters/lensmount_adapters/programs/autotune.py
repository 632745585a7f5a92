"""CUDA graphs of the kernels that TorchInductor writes and tunes: convolutions with bias, ReLU and addition in one.

The modes `max-autotune` of torch.compile capture graphs themselves, with weights of their own. Here the tuned kernels
are captured in the graphs of cudagraphs.py, whose weights can be replaced. Each batch size is tuned for a minute or so
at the first start; the results are kept on disk. So `auto` does not try it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import fx

from lensmount_adapters.programs.cudagraphs import CudaGraphs, Forward
from lensmount_adapters.programs.inductor_cache import in_cache


class Autotuned(CudaGraphs):
    """`Autotuned("cuda", torch.bfloat16, cache=Path("programs")).compile(module, inputs, weights, key="")`."""

    name = "autotune"

    def __init__(
        self,
        device: str | torch.device = "cuda",
        dtype: torch.dtype = torch.float32,
        max_batch: int = 16,
        cache: Path | None = None,
    ) -> None:
        super().__init__(device, dtype, max_batch)
        self._cache = cache

    def _callable(self, module: fx.GraphModule) -> Forward:
        compiled = torch.compile(module, mode="max-autotune-no-cudagraphs", fullgraph=True, dynamic=False)

        def forward(*tensors: torch.Tensor) -> torch.Tensor:
            with in_cache(self._cache):
                output: torch.Tensor = compiled(*tensors)
                return output

        return forward
