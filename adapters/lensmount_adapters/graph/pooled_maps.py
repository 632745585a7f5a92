"""Where a backbone's maps are: the last one, whose mean is the features, and the last one with a finer grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.graph.segments import Segments

FINER = 1.5  # how many times as many cells on a side a finer grid has, at least


@dataclass(frozen=True, slots=True, eq=False)
class PooledMaps:
    """The parts of a network around its maps. `grid` is that of the last map for the backbone's own size of input."""

    to_last: nn.Module
    to_finer: nn.Module
    from_finer: nn.Module
    cut: int  # the number of the last map in `Segments`
    grid: tuple[int, int]


def find_maps(segments: Segments, backbone: Backbone) -> PooledMaps:
    """The maps of a network of this backbone's architecture.

    The last map is the last place where one map [N, feature_dim, rows, columns] is all that the rest of the network
    reads, and the rest is its mean over rows and columns. Raises ExplainError if there is none, as in a vision
    transformer.
    """
    probe = backbone.zeros(1).to(backbone.dtype)
    shapes = {cut: shape for cut, shape in segments.shapes(probe).items() if len(shape) == 4}
    for cut in sorted(shapes, reverse=True):
        rows, columns = shapes[cut][2:]
        if rows * columns == 1 or shapes[cut][1] != backbone.feature_dim:
            continue
        if not _is_mean(segments.halves_at(cut).branch, shapes[cut], backbone):
            break
        finer = max(
            (other for other in shapes if other < cut and min(_finer(shapes[other], shapes[cut])) >= FINER), default=cut
        )
        halves = segments.halves_at(finer)
        return PooledMaps(segments.part(None, cut), segments.part(None, finer), halves.branch, cut, (rows, columns))
    raise ExplainError(
        f"found {backbone.name}, whose features are not the mean of a map, expected a convolutional network that "
        "averages its last map, such as EfficientNet or ResNet. "
        "Fix: the method occlusion, which works with every backbone"
    )


def _is_mean(rest: nn.Module, shape: torch.Size, backbone: Backbone) -> bool:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(backbone.device, backbone.dtype)
    tolerance = 1e-5 if backbone.dtype is torch.float32 else 0.02  # half precision has 8 bits or more
    with torch.inference_mode():
        features = rest(maps)
    mean = maps.float().mean((2, 3))
    return features.shape == mean.shape and bool(torch.allclose(features.float(), mean, rtol=0, atol=tolerance))


def _finer(shape: torch.Size, last: torch.Size) -> tuple[float, float]:
    return shape[2] / last[2], shape[3] / last[3]
