"""CUDA graphs over weights that are written in place: a switch keeps their addresses, so the graphs stay valid.

For `--executor merged`, which merges one adapter at a time into the backbone's own weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.programs.cudagraphs import CudaGraphCompiled

log = logging.getLogger(__name__)


class LiveWeights:
    """What `CudaGraphCompiled` asks of a cast module, for a module that stays as it is."""

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.module = module
        self.device = device
        self.dtype = dtype

    def inputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """A copy is made before each replay, so the module may write to its input."""
        return [x.to(self.device, self.dtype) for x in inputs]

    def weights(self, weights: Sequence[Tensor], *, copied: bool = False) -> tuple[Tensor, ...]:
        """None of them is an input."""
        return ()


def live_graphs(module: nn.Module, example: Tensor, dtype: torch.dtype, max_batch: int) -> Callable[[Tensor], Tensor]:
    """The module as graphs of each batch size of images like the example, [1, 3, ...]; itself if it has none."""
    compiled = CudaGraphCompiled(LiveWeights(module, example.device, dtype), (), module)
    try:
        compiled.capture((example,), max_batch)
    except BackboneError as error:
        log.warning("the backbone is computed without CUDA graphs: %s", error)
        return module
    return lambda images: compiled.replay_loaded((images,))
