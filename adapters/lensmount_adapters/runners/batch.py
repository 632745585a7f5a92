"""A batch as the runner sees it: images that go through one trunk in one pass, and the share of each adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import ORIENTATIONS, Adapter
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.inputs.upload import upload
from lensmount_adapters.runners.costs import Group
from lensmount_adapters.runners.hot_programs import HotPrograms
from lensmount_adapters.runners.mixed_program import Mixable
from lensmount_adapters.runners.runner import Item, by_adapter
from lensmount_adapters.runners.split_backbone import SplitBackbone
from lensmount_adapters.runners.stages import UNWATCHED, Watch


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """The images of one adapter in a batch."""

    adapter: Adapter
    mixable: Mixable | None  # None if the adapter cannot be mixed
    items: list[int]  # which items of the request these are
    rows: list[int]  # which rows of the batch's images, orientation by orientation


class ShareFeatures(NamedTuple):
    """The features [N, feature_dim] of a share, and how its branch was computed."""

    share: Share
    features: Tensor
    mode: str
    pooled: Tensor | None = None  # [N, channels]; None: the batch computes it


@dataclass(slots=True)
class Batch:
    """Images [U, 3, height, width] that go through one trunk in one pass, and the shares of their adapters."""

    split: SplitBackbone
    images: Tensor
    shares: list[Share]
    programs: HotPrograms
    watch: Watch = UNWATCHED
    keeps: bool = False  # whether anything is computed later from its activations
    apart: bool = False  # trunk and branch by themselves, and each adapter alone, whatever was asked before
    _activations: Tensor | None = None
    _pooled: Tensor | None = None

    def activations(self) -> Tensor:
        """What enters the branch, [U, ...]. The trunk runs at the first call; the result is kept."""
        if self._activations is None:
            with self.watch.stage("trunk", items_of(self.shares)):
                self._activations = self.split.activations(self.images)
        return self._activations

    def give(self, activations: Tensor, rows: list[int]) -> None:
        """Note the activations of these rows, which are all rows of the batch: a program gave them with its result."""
        self._activations = torch.empty_like(activations).index_copy_(
            0, upload(torch.tensor(rows), activations.device), activations
        )

    def left(self) -> Iterator[tuple[int, list[int]]]:
        """Each item, and the rows of its activations, orientation by orientation; nothing without activations."""
        if self.has_activations:
            for share in self.shares:
                for place, item in enumerate(share.items):
                    yield item, share.rows[place :: len(share.items)]

    def rows(self, rows: list[int]) -> Tensor:
        """A copy of these rows of the activations; a view would keep the whole batch."""
        activations = self.activations()
        return activations.index_select(0, torch.tensor(rows, device=activations.device))

    @property
    def has_activations(self) -> bool:
        """Whether it has activations, which most end-to-end programs do not give."""
        return self._activations is not None

    def pooled(self) -> Tensor:
        """The pooled activations [images, channels] of the images in their first orientation, on the CPU; kept."""
        if self._pooled is None:
            turns = len(self.shares[0].rows) // len(self.shares[0].items)
            first = self.activations()[: len(self.images) // turns]
            self._pooled = self.split.pooling(first).cpu()
        return self._pooled

    def group(self, share: Share) -> Group:
        """The share as the cost model sees it."""
        mixable = share.mixable is not None and self.split.has_room(share.mixable)
        return Group(len(share.rows), share.adapter.digest in self.programs.cache, mixable)


def batch_of(
    split: SplitBackbone,
    items: Sequence[Item],
    group: Sequence[int],
    mixable: Callable[[Adapter], Mixable | None],
    programs: HotPrograms,
    watch: Watch = UNWATCHED,
) -> Batch:
    """The items in `group` as a batch. They have equal keys (`group_key`)."""
    images, shares = shares_of(items, group, mixable)
    first = items[group[0]]
    batch = Batch(split, images, shares, programs, watch, apart=getattr(first, "apart", False))
    if getattr(first, "from_trunk", False):
        batch.images = batch._activations = _laid_out_like(split.example, images.to(split.device))
    else:
        batch.keeps = any(getattr(items[index], "keeps", False) for index in group)
    return batch


def group_key(item: Item) -> tuple[object, ...]:
    """Items of one cut with equal keys can be one batch."""
    turns = item.adapter.manifest.preprocessing.orientations
    return item.image.shape, turns, getattr(item, "from_trunk", False), getattr(item, "apart", False)


def shares_of(
    items: Sequence[Item], group: Sequence[int], mixable: Callable[[Adapter], Mixable | None]
) -> tuple[Tensor, list[Share]]:
    """Distinct images [U, 3, height, width] of the items in `group`, orientation by orientation, and their shares.

    The items have equal image sizes and numbers of orientations. Each adapter's images lie together. Of items
    `from_trunk`, the first is what the trunk gave for them, in the same order.
    """
    turns = ORIENTATIONS[items[group[0]].adapter.manifest.preprocessing.orientations]
    parts = by_adapter([items[index] for index in group])
    order = [member for _, members in parts for member in members]
    images, rows = _distinct([items[group[member]].image for member in order])
    row_of, distinct = dict(zip(order, rows, strict=True)), len(images)
    if getattr(items[group[0]], "from_trunk", False):
        images = images.transpose(0, 1).flatten(0, 1)  # from [U, orientations, ...]
    elif len(turns) > 1:
        images = torch.cat([orient(images, turn) for turn in turns])
    shares = [
        Share(
            adapter,
            mixable(adapter),
            [group[member] for member in members],
            [turn * distinct + row_of[member] for turn in range(len(turns)) for member in members],
        )
        for adapter, members in parts
    ]
    return images, shares


def rows_of(shares: Sequence[Share]) -> list[int]:
    """The rows of all shares, share by share."""
    return [row for share in shares for row in share.rows]


def items_of(shares: Sequence[Share]) -> Iterator[int]:
    """The items of all shares."""
    return (item for share in shares for item in share.items)


def take(tensor: Tensor, rows: list[int]) -> Tensor:
    """These rows of the tensor, without a copy if they are consecutive."""
    first, end = rows[0], rows[0] + len(rows)
    if rows == list(range(first, end)):
        return tensor[first:end]
    return tensor.index_select(0, upload(torch.tensor(rows), tensor.device))


def _laid_out_like(example: Tensor, x: Tensor) -> Tensor:
    """`x` in the order in memory that `example` has: a sum over another order may differ in its last bit."""
    order = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if order is None or example.is_contiguous() or not example.is_contiguous(memory_format=order):
        return x.contiguous()
    return x.contiguous(memory_format=order)


def _distinct(images: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """The images without repetitions, and the row of each given one."""
    rows: dict[int, int] = {}
    row_of = [rows.setdefault(id(image), len(rows)) for image in images]
    distinct = {id(image): image for image in images}
    return torch.stack(list(distinct.values())), row_of
