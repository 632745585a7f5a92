"""Another adapter's branch for an image that was computed already, from what the trunk gave in that very pass.

The engine's thread notes what a pass leaves (`Kept`), and a thread of its own computes the branches (`Branches`) with
programs of its own, so that a slow or failing branch delays nobody. The pass itself is computed as without a shadow. If
it left nothing that the other adapter can start from, the trunk is computed once more, in that other thread:

| the pass | what is kept |
|---|---|
| the trunk, then branches; the other adapter changes only layers behind it | what the trunk gave |
| one end-to-end program | the image |
| the other adapter changes layers before this trunk's end | the image |
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import ORIENTATIONS, Adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.programs.executor import Compiled, Program
from lensmount_adapters.runners.batch import Batch
from lensmount_adapters.runners.runner import BatchScores, Item
from lensmount_adapters.runners.split_backbone import SplitBackbone

K = TypeVar("K")
V = TypeVar("V")

KEPT_PROGRAMS = 4  # adapters whose weights are kept merged; the one used longest ago is merged again
KEPT_CUTS = 2  # whose trunk and branch are kept


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What the pass of one image left for `adapter`.

    `x` is what the trunk of `split` gave, [orientations, ...], or with `from_image` the image [3, (D,) height, width].
    """

    adapter: Adapter
    split: SplitBackbone
    x: Tensor
    from_image: bool

    @property
    def nbytes(self) -> int:
        return self.x.nbytes

    @property
    def pass_key(self) -> tuple[str, int, bool, torch.Size]:
        """Images with the same key can be computed in one pass."""
        return self.adapter.digest, id(self.split), self.from_image, self.x.shape


@runtime_checkable
class KeepsTrunk(Protocol):
    """A runner whose passes leave what the branch of another adapter needs, at no cost to their own answers."""

    def scores_keeping(
        self, items: Sequence[Item], shadows: Mapping[int, Adapter]
    ) -> tuple[BatchScores, dict[int, Kept]]:
        """As `scores`, bit for bit; and what the pass left for the adapter in the shadow of an item, by its number.

        An item is left out if nothing can be computed for its shadow. Called as `scores` is.
        """
        ...

    def branches(self) -> Branches:
        """What computes them, for another thread."""
        ...


def fits(adapter: Adapter, own: SplitBackbone, split: SplitBackbone) -> bool:
    """Whether the adapter's answer can be computed from what the trunk of `split` gives; its own cut is `own`.

    A later cut of its own is no obstacle, unless it has statistics of the activations there, or one of the two trunks
    is in int8: an adapter's answers are then those of its own trunk alone.
    """
    if own is split:
        return True
    if own.trunk_identity.quantised or split.trunk_identity.quantised:
        return False
    return split.covers(adapter) and (adapter.trust is None or adapter.trust.statistics is None)


class Branches:
    """`Branches().scores(kept)`. One thread owns it, and may be any thread except the engine's."""

    def __init__(self) -> None:
        self._trunks: OrderedDict[SplitBackbone, Program | None] = OrderedDict()
        self._branches: OrderedDict[SplitBackbone, Compiled] = OrderedDict()
        self._programs: OrderedDict[tuple[SplitBackbone, str], Program] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """An estimate of the memory of the adapters' programs."""
        return sum(program.nbytes for program in self._programs.values())

    def scores(self, kept: Sequence[Kept]) -> BatchScores:
        """The scores and pooled activations of each image in turn. Errors of the forward pass are passed on."""
        outcome = BatchScores([torch.empty(0)] * len(kept))
        passes: dict[object, list[int]] = {}
        for index, each in enumerate(kept):
            passes.setdefault(each.pass_key, []).append(index)
        for group in passes.values():
            self._pass([kept[index] for index in group], group, outcome)
        return outcome

    def _pass(self, kept: Sequence[Kept], group: Sequence[int], outcome: BatchScores) -> None:
        adapter, split = kept[0].adapter, kept[0].split
        activations = self._activations(kept)  # [orientations x N, ...], one orientation after the other
        features = self._program(split, adapter)(activations)
        mean = adapter.averaged(adapter.logits(features.to(split.device)))
        scores = probabilities(adapter.manifest.head, mean).cpu()
        pooled = split.pooling(activations[: len(kept)]).cpu() if split.pools(adapter) else [None] * len(kept)
        for index, own_scores, own_pooled in zip(group, scores, pooled, strict=True):
            outcome.scores[index], outcome.pooled[index] = own_scores, own_pooled

    def _activations(self, kept: Sequence[Kept]) -> Tensor:
        if not kept[0].from_image:
            return torch.stack([each.x for each in kept], 1).flatten(0, 1)
        images = torch.stack([each.x for each in kept])
        turns = ORIENTATIONS[kept[0].adapter.manifest.preprocessing.orientations]
        turned = torch.cat([orient(images, turn) for turn in turns]) if len(turns) > 1 else images
        split = kept[0].split
        trunk, turned = _latest(self._trunks, split, KEPT_CUTS, split.trunk_again), turned.to(split.device)
        return turned if trunk is None else trunk(turned)

    def _program(self, split: SplitBackbone, adapter: Adapter) -> Program:
        def bound() -> Program:
            return _latest(self._branches, split, KEPT_CUTS, split.branch_again).bind(split.weights_of(adapter))

        return _latest(self._programs, (split, adapter.digest), KEPT_PROGRAMS, bound)


def _latest(kept: OrderedDict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    """What is kept for the key, or is made now; only those used last stay."""
    if key not in kept:
        kept[key] = make()
        while len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


def kept_of(
    items: Sequence[Item],
    shadows: Mapping[int, Adapter],
    batches: Sequence[Batch],
    split_of: Callable[[Adapter], SplitBackbone | None],
) -> dict[int, Kept]:
    """What the batches left for the adapter in the shadow of each item, by the item's number.

    `split_of` is the cut of an adapter that is ready, or None. An item is left out if its shadow is not ready or
    prepares images in another way.
    """
    left = {item: (batch, rows) for batch in batches for item, rows in batch.left()}
    kept: dict[int, Kept] = {}
    for item, adapter in shadows.items():
        own, image = split_of(adapter), items[item].image
        if own is None or adapter.manifest.preprocessing != items[item].adapter.manifest.preprocessing:
            continue
        batch, rows = left.get(item, (None, []))
        if batch is None or not fits(adapter, own, batch.split):
            kept[item] = Kept(adapter, own, image, from_image=True)
            continue
        kept[item] = Kept(adapter, batch.split, batch.rows(rows), from_image=False)
    return kept
