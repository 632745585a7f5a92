"""An admitted adapter turns features into logits and scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import ExactSwapper, admit


@pytest.mark.parametrize(
    ("orientations", "turned"),
    [
        (1, lambda x: [x]),
        (2, lambda x: [x, x.flip(-1)]),
        (4, lambda x: [x.rot90(k, (-2, -1)) for k in range(4)]),
        (8, lambda x: [y for k in range(4) for y in (x.rot90(k, (-2, -1)), x.rot90(k, (-2, -1)).flip(-1))]),
    ],
)
def test_logits_are_averaged_over_the_orientations_of_the_manifest(
    every_layer: Any, draw_adapter: Callable[..., Any], orientations: int, turned: Callable[[Tensor], list[Tensor]]
) -> None:
    backbone, parts = every_layer(), draw_adapter(every_layer())
    parts.manifest["preprocessing"]["orientations"] = orientations
    adapter = admit(parts.dump(), backbone)
    ExactSwapper(backbone).mount(adapter)
    images = torch.randn(2, 3, 16, 16)

    expected = torch.stack([adapter.logits(backbone.features(x)) for x in turned(images)]).double().mean(0)

    torch.testing.assert_close(adapter.image_logits(backbone, images).double(), expected, rtol=1e-5, atol=1e-6)
