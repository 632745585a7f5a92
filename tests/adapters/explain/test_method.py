"""What every method promises: values of the right shape and kind, and work that can be stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone
from lensmount_adapters.explain.explainer import METHODS
from lensmount_adapters.explain.network import Network

if TYPE_CHECKING:
    from tests.adapters.explain.conftest import DrawExplained


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("orientations", [1, 2])
def test_values_are_finite_numbers_on_the_cpu_and_differ_between_labels(
    method: str, orientations: int, resnet: Backbone, draw_explained: DrawExplained, image: Tensor
) -> None:
    network = Network(resnet).with_adapter(draw_explained(resnet, orientations=orientations))

    first, second = (METHODS[method].values(network, image, label) for label in (0, 1))

    assert first.ndim == 2
    assert first.dtype is torch.float32
    assert first.device.type == "cpu"
    assert not first.requires_grad
    assert torch.isfinite(first).all()
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"cam"}))
def test_work_ends_when_proceed_raises_an_error(
    method: str, resnet: Backbone, draw_explained: DrawExplained, image: Tensor
) -> None:
    def stop() -> None:
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        METHODS[method].values(Network(resnet).with_adapter(draw_explained(resnet)), image, 0, stop)
