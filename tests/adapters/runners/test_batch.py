"""A batch holds each image once, however many adapters ask for it, and knows which rows belong to whom."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.runners.batch import Batch, rows_of, shares_of, take


def with_orientations(adapter: Adapter, orientations: int) -> Adapter:
    rule = adapter.manifest.preprocessing.model_copy(update={"orientations": orientations})
    manifest = adapter.manifest.model_copy(update={"preprocessing": rule})
    return Adapter(adapter.digest, adapter.size_bytes, manifest, adapter.deltas, adapter.head)


@pytest.fixture
def images() -> list[Tensor]:
    return [torch.full((3, 4, 4), float(number)) for number in range(3)]


def test_an_image_that_several_adapters_ask_for_is_in_the_batch_once(
    adapters: list[Adapter], question: type[Any], images: list[Tensor]
) -> None:
    one, two = adapters[:2]
    items = [question(one, images[0]), question(two, images[0]), question(two, images[1]), question(one, images[2])]

    batch, (first, second) = shares_of(items, [0, 1, 2, 3], lambda adapter: None)

    assert len(batch) == 3
    assert (first.adapter, first.items, second.adapter, second.items) == (one, [0, 3], two, [1, 2])
    for share in (first, second):
        assert [float(batch[row, 0, 0, 0]) for row in share.rows] == [
            float(items[item].image[0, 0, 0]) for item in share.items
        ]
    assert rows_of([first, second]) == [*first.rows, *second.rows]


def test_only_the_asked_items_are_in_the_batch(
    adapters: list[Adapter], question: type[Any], images: list[Tensor]
) -> None:
    items = [question(adapters[0], image) for image in images]

    batch, (share,) = shares_of(items, [2, 0], lambda adapter: None)

    assert (len(batch), share.items, share.rows) == (2, [2, 0], [0, 1])
    assert torch.equal(batch, torch.stack([images[2], images[0]]))


def test_orientations_follow_each_other(adapters: list[Adapter], question: type[Any]) -> None:
    one, two = (with_orientations(adapter, 4) for adapter in adapters[:2])
    images = [torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    items = [question(one, images[0]), question(two, images[0]), question(two, images[1])]

    batch, (first, second) = shares_of(items, [0, 1, 2], lambda adapter: None)

    assert len(batch) == 8
    assert (first.rows, second.rows) == ([0, 2, 4, 6], [0, 1, 2, 3, 4, 5, 6, 7])
    for turn in range(4):
        assert torch.equal(batch[2 * turn], images[0].rot90(turn, (-2, -1)))
        assert torch.equal(batch[2 * turn + 1], orient(images[1], turn))


def test_consecutive_rows_are_taken_without_a_copy() -> None:
    table = torch.arange(12.0).reshape(6, 2)

    assert take(table, [2, 3, 4]).data_ptr() == table[2:].data_ptr()
    assert take(table, [4, 2]).tolist() == [[8.0, 9.0], [4.0, 5.0]]
    assert take(table, [1, 1]).tolist() == [[2.0, 3.0], [2.0, 3.0]]


def test_the_trunk_runs_once() -> None:
    class Split:
        runs = 0

        def activations(self, images: Tensor) -> Tensor:
            self.runs += 1
            return images * 2

    split: Any = Split()
    batch = Batch(split, torch.ones(2, 3), [], programs=None)  # type: ignore[arg-type]  # no program is asked for

    assert batch.activations() is batch.activations()
    assert split.runs == 1


def test_activations_are_pooled_once_for_the_first_orientation_alone(
    adapters: list[Adapter], question: type[Any], images: list[Tensor]
) -> None:
    turned = with_orientations(adapters[0], 4)
    items = [question(turned, image) for image in images[:2]]
    rows, shares = shares_of(items, [0, 1], lambda adapter: None)
    seen: list[int] = []

    class Split:
        def activations(self, images: Tensor) -> Tensor:
            return images * 2

        def pooling(self, activations: Tensor) -> Tensor:
            seen.append(len(activations))
            return activations.mean((2, 3))

    split: Any = Split()
    batch = Batch(split, rows, shares, programs=None)  # type: ignore[arg-type]  # no program is asked for

    assert batch.pooled().tolist() == [[0.0] * 3, [2.0] * 3]
    assert batch.pooled() is batch.pooled()
    assert seen == [2]
