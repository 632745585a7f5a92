"""One vector per image from the activations at the cut: what an adapter compares to tell an unfamiliar image.

The trunk is frozen and was trained on images of many kinds, so its activations tell images of another kind apart, which
the adapted network's answers do not (docs/decisions.md has the figures). All adapters of one cut share the vector.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from lensmount_adapters.backbone.model import Backbone

KIND = "mean"  # over space, of each channel


class Pooling(nn.Module):
    """Activations at the cut to vectors, float32 [N, channels]: the mean of each channel over space.

    Takes maps [N, C, h, w] and [N, C, D, h, w], maps [N, h, w, C] if `channels_last`, tokens [N, tokens, C], and
    vectors [N, C], which it returns unchanged.
    """

    def __init__(self, ndim: int, *, channels_last: bool = False) -> None:
        super().__init__()
        channel = ndim - 1 if channels_last or ndim == 3 else 1
        self.space = tuple(dim for dim in range(1, ndim) if dim != channel)

    def forward(self, activations: Tensor) -> Tensor:
        exact = activations.to(torch.float32)
        return exact.mean(self.space) if self.space else exact

    def traced(self) -> fx.GraphModule:
        """The same as a graph, for executors.

        It is built by hand: a tracer replaces the calls of all modules meanwhile, in other threads too.
        """
        return _graph_of(lambda graph, activations: self._node(graph, activations))

    def traced_with_activations(self) -> fx.GraphModule:
        """To columns: the vectors, then all activations [N, numbers]."""
        return _graph_of(
            lambda graph, activations: graph.call_function(
                torch.cat, ([self._node(graph, activations), graph.call_method("flatten", (activations, 1))], 1)
            )
        )

    def _node(self, graph: fx.Graph, activations: fx.Node) -> fx.Node:
        exact = graph.call_method("to", (activations, torch.float32))
        return graph.call_method("mean", (exact, self.space)) if self.space else exact


def flat_columns() -> fx.GraphModule:
    """Activations [N, ...] to columns [N, numbers], as a graph."""
    return _graph_of(lambda graph, activations: graph.call_method("flatten", (activations, 1)))


def pooling_of(backbone: Backbone, activations: Tensor) -> Pooling:
    """The pooling for activations of this backbone, such as these."""
    channels_last = getattr(backbone.module, "output_fmt", "NCHW") == "NHWC"  # timm's word, of Swin for one
    return Pooling(activations.ndim, channels_last=channels_last)


def space_of(backbone: Backbone, at: str) -> str:
    """The name of what the vectors mean: weights, layer and kind. Only vectors of one space may be compared."""
    return f"{backbone.fingerprint}|{at}|{KIND}"


def _graph_of(result: Callable[[fx.Graph, fx.Node], fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output(result(graph, graph.placeholder("activations")))
    return fx.GraphModule(nn.Module(), graph)
