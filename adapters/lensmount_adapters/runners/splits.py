"""The backbone at each cut that adapters need, with a float trunk or one in int8."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import CostBook, LinearCost
from lensmount_adapters.runners.split_backbone import MEASURED_IMAGES, SplitBackbone
from lensmount_adapters.trunks.record import Int8Use

log = logging.getLogger(__name__)

MIN_GAIN = 1.2  # as in programs/race.py: a lower precision must be clearly faster where nobody asked for it

Key = tuple[int | None, bool]  # the cut, and whether the trunk is in int8


class Splits:
    """`splits.of(adapter)`; iterating gives those that were made. Safe from any thread.

    `_splits` and `_usable` are replaced under `_cutting`, which is held while programs are made: that takes seconds.

    Where nobody asked for int8, a trunk is quantised and measured once, by `later`, so that no start waits for it.
    The cost book keeps what was found. Adapters that come after that, and all after the next start, use what is faster.
    """

    def __init__(
        self,
        backbone: Backbone,
        segments: Segments,
        executor: Executor,
        max_batch: int,
        book: CostBook,
        int8: Int8Use | None = None,
        later: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        self._backbone = backbone
        self._segments = segments
        self._executor = executor
        self._max_batch = max_batch
        self._book = book
        self._int8 = int8
        self._later = later
        self._splits: Mapping[Key, SplitBackbone] = {}
        self._usable: Mapping[int, bool] = {}  # by cut: whether an int8 trunk can be made there, and is worth it
        self._cutting = threading.Lock()

    def __iter__(self) -> Iterator[SplitBackbone]:
        return iter(tuple(self._splits.values()))

    def cut_of(self, split: SplitBackbone) -> int | None:
        return next(cut for (cut, _), made in self._splits.items() if made is split)

    def of(self, adapter: Adapter) -> SplitBackbone:
        """The backbone, cut before the first tensor that the adapter changes. Raises BackboneError."""
        cut = self._segments.cut_before([delta.target.name for delta in adapter.deltas])
        return self._split((cut, self._wants_int8(adapter, cut)))

    def _wants_int8(self, adapter: Adapter, cut: int | None) -> bool:
        if self._int8 is None or cut is None:
            return False
        recipe = self._int8.trunks.recipe(self._backbone, self._segments.name_of(cut))
        return self._int8.allows(adapter.manifest, recipe) and self._is_usable(cut, self._int8, recipe)

    def _is_usable(self, cut: int, int8: Int8Use, recipe: str) -> bool:
        """Whether there is an int8 trunk at this cut and, if only records allow it, whether it is faster here."""
        if cut not in self._usable:
            known = [self._book.lines.get(name) for name in _lines(recipe)]
            if int8.asked:
                self._note(cut, self._has_int8(cut))
            elif known[0] is not None and known[1] is not None:  # so no start makes programs only to measure them
                self._note(cut, _gain(known[0], known[1]) >= MIN_GAIN and self._has_int8(cut))
            else:
                self._note(cut, False)
                self._later(partial(self._measure, cut, recipe))
        return self._usable[cut]

    def _note(self, cut: int, usable: bool) -> None:
        with self._cutting:
            self._usable = {**self._usable, cut: usable}

    def _has_int8(self, cut: int) -> bool:
        try:
            self._split((cut, True))
        except BackboneError as error:
            log.warning("the trunk before %s stays in float: %s", self._segments.name_of(cut), error)
            return False
        return True

    def _measure(self, cut: int, recipe: str) -> None:
        """With programs of its own, because those of `_splits` are run by the engine's thread."""
        try:
            floating, int8 = self._made(cut, False), self._made(cut, True)
        except BackboneError as error:
            log.warning("the trunk before %s stays in float: %s", self._segments.name_of(cut), error)
            return
        costs = (floating.trunk_cost, int8.trunk_cost)
        before, now = (self._book.line(name, cost) for name, cost in zip(_lines(recipe), costs, strict=True))
        self._note(cut, _gain(before, now) >= MIN_GAIN)

    def _split(self, key: Key) -> SplitBackbone:
        known = self._splits.get(key)  # found without the lock, so nobody waits while another cut is being made
        if known is not None:
            return known
        with self._cutting:
            if key not in self._splits:
                self._splits = {
                    **self._splits,
                    key: self._made(*key),
                }  # a new dict: others may iterate over the old one
            return self._splits[key]

    def _made(self, cut: int | None, in_int8: bool) -> SplitBackbone:
        halves = self._segments.halves_at(cut)
        made = partial(SplitBackbone, self._backbone, halves, self._executor, self._max_batch, self._book)
        if not in_int8 or self._int8 is None:
            return made()
        int8 = self._int8.trunks.of(self._backbone, halves, self._executor)
        return made(int8, partial(self._int8.branch_ranges, recipe=int8.recipe))


def _lines(recipe: str) -> tuple[str, str]:
    """The names of the costs of the trunk in float and in int8."""
    return f"trunk in float, {recipe[7:23]}", f"trunk in int8, {recipe[7:23]}"


def _gain(floating: LinearCost, int8: LinearCost) -> float:
    """How many times as fast the int8 trunk is: the geometric mean for one image and for several."""
    ratios = [floating(images) / max(int8(images), 1e-9) for images in (1, MEASURED_IMAGES)]
    return float((ratios[0] * ratios[1]) ** 0.5)
