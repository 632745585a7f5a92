"""End-to-end programs that also give what the trunk gave, for images with a shadow; their answers have the same bits.

An end-to-end program keeps the trunk's output to itself. Its twin here appends it as columns. Before a twin is used,
its answers to a few images of noise are compared, bit for bit, with those of the program without these columns. Where
they differ, the twin is dropped and the trunk is computed once more for the shadow. docs/decisions.md has the figures.

Twins have memory of their own (`MOST`), so that a shadow evicts no program of those who are answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from lensmount_adapters.programs.executor import Joining, Program
from lensmount_adapters.runners.batch import Batch
from lensmount_adapters.runners.shortcut import Offer
from lensmount_adapters.runners.split_backbone import SplitBackbone

log = logging.getLogger(__name__)

MOST = 4  # twins: for single images and for batches of two adapters
UNUSED_S = 60.0  # after which one is dropped


@dataclass(slots=True)
class Twin:
    """`program` is None while it is made, and if its bits differ. `shape` is that of one image's activations."""

    used_at: float
    program: Program | None = None
    shape: torch.Size | None = None


class KeepingPrograms:
    """`twins.instead_of(offer, batch, branch, many=True, of=digest)`: the offer with its twin if that is ready.

    Only the engine's thread calls it and `drop_unused`; `forget` is safe from any thread; the background thread makes
    the twins. `_lock` guards the dict.
    """

    def __init__(
        self,
        executor: Joining,
        later: Callable[[Callable[[], None]], None],
        max_batch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._later = later
        self._max_batch = max_batch
        self._clock = clock
        self._twins: dict[tuple[Hashable, Hashable], Twin] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._twins)

    def instead_of(self, offer: Offer, batch: Batch, branch: Program, of: Hashable, *, many: bool) -> Offer:
        """`branch` and the batch's trunk are the parts of the offered program, and `of` is whose branch it is."""
        key, now = (of, offer.key), self._clock()
        with self._lock:
            twin = self._twins.get(key)
            if twin is None and len(self._twins) < MOST:
                twin = self._twins[key] = Twin(now)
                examples = [tensor[:1].clone() for tensor in (batch.images, *offer.others)]
                join = partial(self._join, batch.split, branch, examples, many, offer.pooled)
                self._later(partial(self._make, key, batch.split, examples, join, many))
        if twin is None:
            return offer
        twin.used_at = now
        if twin.program is None:
            return offer
        return replace(offer, program=twin.program, activations=twin.shape)

    def drop_unused(self) -> None:
        """Free the memory of twins that nobody needed for a while."""
        if self._twins:
            with self._lock:
                soon = self._clock() - UNUSED_S
                self._twins = {key: twin for key, twin in self._twins.items() if twin.used_at > soon}

    def forget(self, of: Hashable) -> None:
        with self._lock:
            self._twins = {key: twin for key, twin in self._twins.items() if key[0] != of}

    def _make(
        self,
        key: tuple[Hashable, Hashable],
        split: SplitBackbone,
        examples: Sequence[Tensor],
        join: Callable[[bool], Program],
        many: bool,
    ) -> None:
        twin, plain = join(True), join(False)
        sizes = sorted({2, 3, self._max_batch}) if many else [1]
        if not all(_same_bits(plain, twin, [_of_size(x, size) for x in examples]) for size in sizes):
            log.warning("%s: an end-to-end program cannot keep the trunk's output without changing bits", split.key)
            return
        with self._lock:
            if key in self._twins:
                self._twins[key].shape = split.shape_at(tuple(examples[0].shape[1:]))[1:]
                self._twins[key].program = twin

    def _join(
        self, split: SplitBackbone, branch: Program, examples: Sequence[Tensor], many: bool, pooled: bool, keeps: bool
    ) -> Program:
        assert split.trunk is not None  # the offer is of a program that has one
        appended = split.kept_columns(pooled=pooled) if keeps else split.pooling_program if pooled else None
        shapes = [tensor.shape for tensor in examples]
        return self._executor.join(split.trunk, branch, shapes, many=many, appended=appended)


def _same_bits(plain: Program, twin: Program, inputs: Sequence[Tensor]) -> bool:
    expected, found = plain(*inputs), twin(*inputs)
    return torch.equal(expected, found[:, : expected.shape[1]])


def _of_size(example: Tensor, size: int) -> Tensor:
    """`size` samples like the example: images become noise, and others stay what they are."""
    several = example.expand(size, *example.shape[1:]).clone()
    draw = torch.Generator().manual_seed(size)
    return torch.randn(several.shape, generator=draw) if example.ndim > 2 else several
