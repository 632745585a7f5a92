"""Subtraction in place drifts, and refreshing from the weights removes the drift; so it is never the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, SubtractingSwapper, admit
from lensmount_adapters.backbone.pristine import Reread
from lensmount_adapters.errors import SwapError


@pytest.fixture
def backbone(every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer()


@pytest.fixture
def adapters(backbone: Backbone, draw_adapter: Callable[..., Any]) -> list[Adapter]:
    return [admit(draw_adapter(backbone, "mixed", seed=seed).dump(), backbone) for seed in range(4)]


@pytest.fixture
def weights(backbone: Backbone) -> Mapping[str, Tensor]:
    """The contents of a weights file, which the backbone reads again instead of keeping clones."""
    tensors = {name: tensor.clone() for name, tensor in backbone.tensors.items()}
    backbone.pristine = Reread(lambda: tensors)
    return tensors


def test_no_clone_stays_in_memory(
    backbone: Backbone, weights: Mapping[str, Tensor], draw_adapter: Callable[..., Any]
) -> None:
    swapper = SubtractingSwapper(backbone)
    for seed in range(3):
        swapper.mount(admit(draw_adapter(backbone, "mixed", seed=seed).dump(), backbone))
    assert backbone.bytes_resident()[1] == 0


def drifted(backbone: Backbone, weights: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in backbone.tensors.items() if not torch.equal(tensor, weights[name])]


def test_the_base_does_not_come_back_by_itself(
    backbone: Backbone, adapters: list[Adapter], weights: Mapping[str, Tensor]
) -> None:
    swapper = SubtractingSwapper(backbone, refresh_after=1_000)
    for turn in range(20):
        assert swapper.mount(adapters[turn % 4])
    swapper.unmount()
    assert swapper.mounted is None
    assert swapper.switches == 20
    assert len(drifted(backbone, weights)) > 10
    for name in drifted(backbone, weights):
        assert torch.allclose(backbone.tensors[name], weights[name], rtol=1e-4, atol=1e-5)


def test_refreshing_brings_the_base_back_bit_for_bit(
    backbone: Backbone, adapters: list[Adapter], weights: Mapping[str, Tensor]
) -> None:
    swapper = SubtractingSwapper(backbone, refresh_after=1_000)
    for turn in range(20):
        swapper.mount(adapters[turn % 4])
    swapper.unmount()
    swapper.refresh()
    assert drifted(backbone, weights) == []


def test_it_refreshes_by_itself_after_the_stated_number_of_switches(
    backbone: Backbone, adapters: list[Adapter], weights: Mapping[str, Tensor]
) -> None:
    reloads: list[int] = []

    def reload() -> Mapping[str, Tensor]:
        reloads.append(swapper.switches)
        return weights

    swapper = SubtractingSwapper(backbone, refresh_after=5)
    backbone.pristine = Reread(reload)
    for turn in range(12):
        swapper.mount(adapters[turn % 4])
    assert reloads == [5, 10]


def test_the_first_mount_after_a_refresh_is_what_addition_gives(
    backbone: Backbone, adapters: list[Adapter], weights: Mapping[str, Tensor]
) -> None:
    swapper = SubtractingSwapper(backbone, refresh_after=3)
    for adapter in adapters[:3]:
        swapper.mount(adapter)
    for delta in adapters[2].deltas:
        name = delta.target.name
        assert torch.equal(backbone.tensors[name], delta.merged(weights[name]))


def test_mounting_the_mounted_adapter_does_nothing(
    backbone: Backbone, adapters: list[Adapter], weights: Mapping[str, Tensor]
) -> None:
    swapper = SubtractingSwapper(backbone)
    assert swapper.mount(adapters[0])
    assert not swapper.mount(adapters[0])
    assert swapper.switches == 1


class Unreadable:
    """A delta that can no longer be computed once `broken` is set."""

    def __init__(self, delta: Any, error: BaseException) -> None:
        self.delta, self.error, self.broken = delta, error, True
        self.target, self.rank = delta.target, delta.rank

    def dense(self) -> Tensor:
        if self.broken:
            raise self.error
        dense: Tensor = self.delta.dense()
        return dense


def with_unreadable(adapter: Adapter, error: BaseException) -> tuple[Adapter, Unreadable]:
    last = Unreadable(adapter.deltas[-1], error)
    deltas = (*adapter.deltas[:-1], last)
    return Adapter("sha256:unreadable", 0, adapter.manifest, deltas, adapter.head), last  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [RuntimeError("injected"), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_a_merge_that_fails_reads_the_base_again(
    error: BaseException, backbone: Backbone, adapters: list[Adapter], weights: Mapping[str, Tensor]
) -> None:
    swapper = SubtractingSwapper(backbone, refresh_after=1_000)
    broken, _ = with_unreadable(adapters[1], error)
    swapper.mount(adapters[0])
    with pytest.raises(SwapError if isinstance(error, Exception) else type(error)):
        swapper.mount(broken)
    assert swapper.mounted is None
    assert drifted(backbone, weights) == []


@pytest.mark.parametrize("remove", ["unmount", "switch"])
@pytest.mark.parametrize("error", [RuntimeError("injected"), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_a_removal_that_fails_reads_the_base_again(
    error: BaseException, remove: str, backbone: Backbone, adapters: list[Adapter], weights: Mapping[str, Tensor]
) -> None:
    swapper = SubtractingSwapper(backbone, refresh_after=1_000)
    fragile, delta = with_unreadable(adapters[1], error)
    delta.broken = False
    swapper.mount(fragile)
    delta.broken = True
    with pytest.raises(SwapError if isinstance(error, Exception) else type(error)):
        swapper.unmount() if remove == "unmount" else swapper.mount(adapters[2])
    assert swapper.mounted is None
    assert drifted(backbone, weights) == []
