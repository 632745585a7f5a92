"""End-to-end programs, a shortcut: trunk and branch in one program for an adapter or a group that fills batches alone.

Two programs in turn evict each other's weights and activations from the CPU's caches. docs/decisions.md has the figures
and the reasons.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.programs.executor import Executor, Joining, Program
from lensmount_adapters.runners.batch import Batch, rows_of
from lensmount_adapters.runners.hot_programs import HotPrograms
from lensmount_adapters.runners.keeping import KeepingPrograms
from lensmount_adapters.runners.shortcut import Offer
from lensmount_adapters.runners.split_backbone import SplitBackbone

END_TO_END_WEIGHT = 0.125  # of one use of a hot slot: it saves that much less, so any adapter that is not hot evicts it


def end_to_end(
    backbone: Backbone, executor: Executor, programs: HotPrograms, max_batch: int
) -> EndToEndPrograms | None:
    """The shortcut, or None if two programs in turn cost this executor no more than one."""
    return EndToEndPrograms(executor, programs, max_batch) if isinstance(executor, Joining) else None


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """The key of a program from images to features; the program of the branch has the key `of`."""

    of: Hashable  # an adapter's digest, or a fused group
    many: bool  # False: a program for one image at a time, which takes a fifth of the memory
    pooled: bool  # whether the pooled activations follow the features as further columns


class EndToEndPrograms:
    """`EndToEndPrograms(executor, programs, 8).offer(batch, before)`, for a batch of one adapter or one fused group."""

    def __init__(self, executor: Joining, programs: HotPrograms, max_batch: int) -> None:
        self._executor = executor
        self._programs = programs
        self.keeping = KeepingPrograms(executor, programs.later, max_batch)
        self._nbytes: dict[tuple[SplitBackbone, int, bool], int] = {}  # of the last program made, by inputs and `many`
        programs.derive(
            lambda key: tuple(EndToEnd(key, many, pooled) for many in (False, True) for pooled in (False, True))
        )

    def offer(self, batch: Batch, before: Offer | None) -> Offer | None:
        """The program from images to features, in mode "whole", if it exists; one is made after some 12 images.

        Offers nothing if an image is for several adapters: it must go through the trunk once.
        """
        rows = rows_of(batch.shares)
        trunk = batch.split.trunk
        if trunk is None or batch.has_activations or len(set(rows)) < len(rows):
            return before
        of: Hashable
        branch: Program | None
        others: tuple[Tensor, ...] = ()
        if len(batch.shares) == 1:
            of = batch.shares[0].adapter.digest
            branch = self._programs.cache.get(of)
        elif before is not None and before.measured and len(before.shares) == len(batch.shares):
            of, branch, others = before.key, before.program, before.others
        else:
            return before
        pooled = any(batch.split.pools(share.adapter) for share in batch.shares)
        key = EndToEnd(of, len(rows) > 1, pooled)
        cache = self._programs.cache
        cache.record_use(key, END_TO_END_WEIGHT * len(rows))
        program = cache.get(key)
        self.keeping.drop_unused()
        if program is not None:
            offer = Offer(key, program, batch.shares, "whole", others, from_images=True, pooled=pooled)
            if not batch.keeps or branch is None:
                return offer
            return self.keeping.instead_of(offer, batch, branch, of, many=key.many)
        if branch is not None and cache.should_admit(key, self._nbytes.get((batch.split, len(others), key.many), 0)):
            self._make(key, batch, branch, others)
        return before

    def forget(self, digest: str) -> None:
        """Programs in the hot cache are given up together with the adapter's own."""
        self.keeping.forget(digest)

    def _make(self, key: EndToEnd, batch: Batch, branch: Program, others: tuple[Tensor, ...]) -> None:
        """Join trunk and branch in the background. They are joined as they are; nothing is converted again."""
        split, shapes = batch.split, [batch.images.shape, *(tensor.shape for tensor in others)]

        def join() -> Program:
            assert split.trunk is not None  # `offer` checked it
            appended = split.pooling_program if key.pooled else None
            program = self._executor.join(split.trunk, branch, shapes, many=key.many, appended=appended)
            self._nbytes[split, len(others), key.many] = program.nbytes
            return program

        self._programs.make(key, join)
