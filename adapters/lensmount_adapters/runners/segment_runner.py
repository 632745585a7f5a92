"""A batch with any mix of adapters: the trunk runs once per image, then the branches. The backbone is never written.

The branch takes its weights as inputs, so each adapter supplies different weights to the same compiled program. There
are three ways to compute it (docs/decisions.md): `hot`, the merged weights are constants of a program for one adapter;
`merged`, they are computed into a buffer and passed in; `mixed`, one program for many adapters with their factors side
by side. Costs measured on this machine decide for each batch. dLoRA (OSDI 2024) chooses between merged and mixed in the
same way, for language models. Shortcuts (runners/shortcut.py) take over the batches for which they have a program.

The docstring of the package says which thread touches what, and which locks there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.trust_check import check_layer
from lensmount_adapters.backbone.fingerprint import nothing
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.inputs.upload import download
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.batch import Batch, Share, ShareFeatures, batch_of, group_key, items_of, rows_of, take
from lensmount_adapters.runners.costs import CostBook, mixed_groups
from lensmount_adapters.runners.end_to_end import end_to_end
from lensmount_adapters.runners.fused import fused_groups
from lensmount_adapters.runners.hot_programs import HotPrograms
from lensmount_adapters.runners.kept_trunk import Branches, Kept, fits, kept_of
from lensmount_adapters.runners.map_programs import MapPrograms
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.mixed_program import Mixable
from lensmount_adapters.runners.runner import BatchScores, Item
from lensmount_adapters.runners.shortcut import Offer, Shortcut
from lensmount_adapters.runners.split_backbone import SplitBackbone
from lensmount_adapters.runners.splits import Splits
from lensmount_adapters.runners.stages import UNWATCHED, Watch, watch_of
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.trunks.record import Int8Use

log = logging.getLogger(__name__)

SHORTCUTS: Mapping[str, Callable[[Backbone, Executor, HotPrograms, int], Shortcut | None]] = {
    "fused": fused_groups,
    "end-to-end": end_to_end,
}
"""How each shortcut is made; None if it is of no use here. Each may improve on the offer of the one before it."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """What was made in advance for one adapter."""

    split: SplitBackbone
    mixable: Mixable | None


class SegmentRunner:
    """`SegmentRunner(backbone, executor).scores(items)`. Raises BackboneError if the backbone cannot be traced.

    `hot_bytes` bounds the memory of programs that contain weights; with 0, only factors are kept. `book` has the costs
    that were measured before. `shortcuts` are names from `SHORTCUTS`. `int8` says which adapters have an int8 trunk.
    """

    mixes = True

    def __init__(
        self,
        backbone: Backbone,
        executor: Executor,
        *,
        max_batch: int = 16,
        hot_bytes: int = 2**29,
        book: CostBook | None = None,
        shortcuts: Collection[str] = tuple(SHORTCUTS),
        int8: Int8Use | None = None,
    ) -> None:
        unknown = set(shortcuts) - SHORTCUTS.keys()
        if unknown:
            raise ValueError(f"found shortcuts {sorted(unknown)}, expected names from {sorted(SHORTCUTS)}")
        self._backbone = backbone
        self._executor = executor
        self._int8 = int8
        self.book = book or CostBook()
        self._watch: Watch = UNWATCHED  # of the batch that is computed
        self.programs = HotPrograms(hot_bytes)
        chosen = [name for name in SHORTCUTS if name in shortcuts]
        made = {name: SHORTCUTS[name](backbone, executor, self.programs, max_batch) for name in chosen}
        self.shortcuts: Mapping[str, Shortcut] = {name: shortcut for name, shortcut in made.items() if shortcut}
        self._segments = Segments(backbone.module)
        self._splits = Splits(backbone, self._segments, executor, max_batch, self.book, int8, self.programs.at_leisure)
        self._map_programs = MapPrograms(backbone, executor, self._segments, self.programs)
        self._ready: WeakKeyDictionary[Adapter, _Ready | None] = WeakKeyDictionary()
        self._in_place: MergedRunner | None = None  # made when first needed
        self._noting = threading.Lock()  # of entries in `_ready`

    @property
    def splits(self) -> tuple[SplitBackbone, ...]:
        """The backbone at each cut that was needed so far."""
        return tuple(self._splits)

    def check(self, adapter: Adapter) -> None:
        cut = self._segments.cut_before([delta.target.name for delta in adapter.deltas])
        if adapter.trust is not None and adapter.trust.statistics is not None and cut is not None:
            check_layer(adapter.trust.block, self._segments.name_of(cut))

    def ready(self, adapter: Adapter) -> bool:
        return adapter in self._ready

    def prepare(self, adapter: Adapter) -> None:
        """Make the programs of the adapter's cut."""
        self._ready_for(adapter)

    def prefetch(self, adapter: Adapter, like: str | None = None, share: float = 1.0) -> Future[None]:
        done: Future[None] = Future()
        cache = self.programs.cache
        if like is not None:
            cache.expect(adapter.digest, like, share)

        def work() -> None:
            try:
                ready = self._ready_for(adapter)
                if ready is not None:
                    nbytes = ready.split.hot_nbytes
                    if cache.has_room(nbytes) or cache.should_admit(adapter.digest, nbytes):
                        self._make_hot(adapter, ready.split)
            finally:
                self.programs.when_done(done)  # after the program, because there is one thread for both

        self.programs.later(work)
        return done

    def retire(self, digest: str) -> None:
        self.programs.retire(digest)

    def forget(self, digest: str) -> None:
        self.programs.give_up(digest)
        for shortcut in self.shortcuts.values():
            shortcut.forget(digest)
        for split in self._splits:
            split.forget(digest)

    def pin(self, digest: str, pinned: bool) -> None:
        """A pinned adapter gets a hot slot at its first image and keeps it."""
        self.programs.cache.pin(digest, pinned)

    def scores(self, items: Sequence[Item]) -> BatchScores:
        return self.scores_keeping(items, {})[0]

    def scores_keeping(
        self, items: Sequence[Item], shadows: Mapping[int, Adapter]
    ) -> tuple[BatchScores, dict[int, Kept]]:
        self._watch = watch_of(items, self._backbone.device)
        outcome = BatchScores([torch.empty(0)] * len(items))
        batches: list[Batch] = []
        started = time.perf_counter()
        for split, group in self._groups(items):
            batch = batch_of(split, items, group, self._mixable, self.programs, self._watch)
            batch.keeps |= any(self._starts_at(shadows[item], split) for item in group if item in shadows)
            self._compute(batch, outcome)
            if split.trunk is not None:
                wanted = ((item, rows) for item, rows in batch.left() if getattr(items[item], "keeps", False))
                outcome.trunk |= {item: batch.rows(rows).cpu() for item, rows in wanted}
            if shadows:
                batches.append(batch)
        unsplittable = [index for index, item in enumerate(items) if self._ready_for(item.adapter) is None]
        if unsplittable:
            self._merge_in_place(items, unsplittable, outcome)
        outcome.scores = download(outcome.scores)  # of all adapters at once
        outcome.forward_s = time.perf_counter() - started - outcome.swap_s
        outcome.stages = self._watch.stages
        return outcome, kept_of(items, shadows, batches, self._split_of)

    def branches(self) -> Branches:
        return Branches()

    def trunk_of(self, adapter: Adapter) -> str | None:
        split = self._split_of(adapter)
        return None if split is None or split.trunk is None else split.trunk_identity.key

    def prepare_maps(self, adapter: Adapter) -> bool:
        ready = self._ready_for(adapter)
        if ready is None:
            return False
        return self._map_programs.prepare(adapter, self._splits.cut_of(ready.split), ready.split)

    def maps(self, items: Sequence[Item]) -> BatchScores:
        self._watch = watch_of(items, self._backbone.device)
        outcome = BatchScores([torch.empty(0)] * len(items), maps=[torch.empty(0)] * len(items))
        started = time.perf_counter()
        for split, group in self._groups(items):
            batch = batch_of(split, items, group, self._mixable, self.programs, self._watch)
            for share in batch.shares:
                with self._watch.stage("branch", share.items, "maps"):
                    found = self._map_programs.run(share, batch)
                maps = found.maps
                self._finish(ShareFeatures(share, maps.mean((2, 3)), "maps", found.pooled), batch, outcome)
                by_turn = maps.cpu().view(-1, len(share.items), *maps.shape[1:])  # [orientations, N, feature_dim, h, w]
                for number, item in enumerate(share.items):
                    outcome.maps[item] = by_turn[:, number].clone()
        outcome.scores = download(outcome.scores)  # of all adapters at once
        outcome.forward_s = time.perf_counter() - started
        outcome.stages = self._watch.stages
        return outcome

    def rest(self) -> None:
        """Does nothing: no adapter is ever mounted on the backbone itself."""

    def changed(self, between: Callable[[], None] = nothing) -> list[str]:
        """Names of backbone tensors, folded ones and those of the copy to merge in that differ from the start."""
        folded = [f"{name} (folded)" for split in self._splits for name in split.changed(between)]
        folded += [f"{name} (folded, maps)" for name in self._map_programs.changed(between)]
        copied = [] if self._in_place is None else [f"{name} (copy)" for name in self._in_place.changed(between)]
        return self._backbone.changed(between) + folded + copied

    def tier(self, digest: str) -> str | None:
        return "hot" if self.programs.is_hot(digest) else None

    def describe(self) -> dict[str, str]:
        precision = str(self._executor.dtype).removeprefix("torch.")
        trunk = {} if self._int8 is None else {"trunk": "int8" if self._int8.asked else "int8 where it costs nothing"}
        return {"mode": "segments", "executor": self._executor.name, "precision": precision, **trunk}

    def nbytes(self) -> dict[str, int]:
        return {"hot": self.programs.cache.nbytes}

    def shed(self) -> int:
        return self.programs.cache.shed()

    def settle(self) -> None:
        self.programs.settle()
        self.programs.settle()  # the first waits for the prefetches, the second for the programs that they asked for

    def close(self) -> None:
        self.programs.close()

    def _ready_for(self, adapter: Adapter) -> _Ready | None:
        """None for an adapter that must be merged in place, into a copy of the whole backbone."""
        if adapter not in self._ready:
            ready = self._make_ready(adapter)
            with self._noting:  # the first of two threads wins, so a batch sees one and the same entry to its end
                self._ready.setdefault(adapter, ready)
        return self._ready[adapter]

    def _mixable(self, adapter: Adapter) -> Mixable | None:
        """Of an adapter whose images `_groups` returned."""
        return self._ready[adapter].mixable  # type: ignore[union-attr]  # not None: `_groups` left those out

    def _make_ready(self, adapter: Adapter) -> _Ready | None:
        try:
            split = self._splits.of(adapter)
        except BackboneError as error:
            log.warning("%s: merged in place, because no program could be made: %s", adapter.manifest.name, error)
            return None
        if not split.covers(adapter):
            log.warning("%s: merged in place, because the trace did not take its layers apart", adapter.manifest.name)
            return None
        if adapter.trust is not None and adapter.trust.statistics is not None and not split.pools(adapter):
            log.warning(
                "%s: cannot tell unfamiliar images, because its statistics are not of the layer before its own (%s)",
                adapter.manifest.name,
                split.space,
            )
        ready = _Ready(split, split.mixable(adapter))
        if split.must_grow():
            self.programs.later(split.grow)
        return ready

    def _groups(self, items: Sequence[Item]) -> list[tuple[SplitBackbone, list[int]]]:
        """Items whose images go through one trunk in one pass: with an equal cut and `group_key`."""
        groups: dict[object, tuple[SplitBackbone, list[int]]] = {}
        for index, item in enumerate(items):
            ready = self._ready_for(item.adapter)
            if ready is not None:
                groups.setdefault((id(ready.split), group_key(item)), (ready.split, []))[1].append(index)
        return list(groups.values())

    def _split_of(self, adapter: Adapter) -> SplitBackbone | None:
        ready = self._ready.get(adapter)
        return None if ready is None else ready.split

    def _starts_at(self, shadow: Adapter, split: SplitBackbone) -> bool:
        """Whether the branch of the shadow can start from what the trunk of this cut gives."""
        own = self._split_of(shadow)
        return own is not None and fits(shadow, own, split)

    def _compute(self, batch: Batch, outcome: BatchScores) -> None:
        cache = self.programs.cache
        for share in batch.shares:
            cache.record_use(share.adapter.digest, len(share.rows))
        results = self._features(batch, outcome)
        for result in results:  # after all programs, because Python's own data leaves the CPU's caches while one runs
            self._finish(result, batch, outcome)
        for result in results:
            if cache.should_admit(result.share.adapter.digest, batch.split.hot_nbytes):
                self._make_hot(result.share.adapter, batch.split)

    def _features(self, batch: Batch, outcome: BatchScores) -> list[ShareFeatures]:
        """Each share by a shortcut, or the trunk and then its branch in the way that costs least."""
        offer: Offer | None = None
        for shortcut in () if batch.apart else self.shortcuts.values():
            offer = shortcut.offer(batch, offer)
        if offer is None:
            results, shares = [], batch.shares
        else:
            results, offered = offer.compute(batch), set(offer.shares)
            shares = [share for share in batch.shares if share not in offered]
        runs = self._mixed_runs(shares, batch)
        for run in runs:
            results += self._mix([shares[number] for number in run], batch, outcome)
        mixed = {number for run in runs for number in run}
        return results + [
            self._alone(share, batch, outcome) for number, share in enumerate(shares) if number not in mixed
        ]

    def _mixed_runs(self, shares: list[Share], batch: Batch) -> list[list[int]]:
        """Which shares to mix. A lone share is not: its bits must not depend on what was requested before."""
        if len(shares) <= 1 or batch.apart or batch.split.costs.mixed is None:
            return []
        return mixed_groups(batch.split.costs, [batch.group(share) for share in shares])

    def _mix(self, shares: list[Share], batch: Batch, outcome: BatchScores) -> list[ShareFeatures]:
        members = [(share.mixable, len(share.rows)) for share in shares if share.mixable is not None]
        activations = take(batch.activations(), rows_of(shares))
        with batch.watch.stage("branch", items_of(shares), "mixed"):
            features = batch.split.mixed(activations, members)
        outcome.swap_s += batch.split.pack_s
        parts = torch.split(features, [len(share.rows) for share in shares])
        return [ShareFeatures(share, part, "mixed") for share, part in zip(shares, parts, strict=True)]

    def _alone(self, share: Share, batch: Batch, outcome: BatchScores) -> ShareFeatures:
        split = batch.split
        activations = take(batch.activations(), share.rows)
        program = self.programs.cache.get(share.adapter.digest)
        started = time.perf_counter()
        if program is not None:
            with batch.watch.stage("branch", share.items, "hot"):
                features = program(activations)
            several = len(outcome.scores) > len(share.items)
            split.learn("hot", len(activations), time.perf_counter() - started, alone=not several)
            return ShareFeatures(share, features, "hot")
        with batch.watch.stage("swap", share.items):
            switched = split.mount(share.adapter)
        if switched:
            outcome.switches += 1
            outcome.swap_s += time.perf_counter() - started
        with batch.watch.stage("branch", share.items, "merged"):
            return ShareFeatures(share, split.run(activations), "merged")

    def _finish(self, result: ShareFeatures, batch: Batch, outcome: BatchScores) -> None:
        """Apply the adapter's own head, average over orientations, and store the scores and pooled activations."""
        adapter, items = result.share.adapter, result.share.items
        with batch.watch.stage("head", items):
            mean = adapter.averaged(adapter.logits(result.features.to(self._backbone.device)))
            scores = probabilities(adapter.manifest.head, mean)  # [N, classes], or maps [N, classes, h, w]
        for item, row in zip(items, scores, strict=True):
            outcome.scores[item] = row
        if batch.split.pools(adapter):
            pooled = take(batch.pooled(), result.share.rows[: len(items)]) if result.pooled is None else result.pooled
            for item, row in zip(items, pooled[: len(items)], strict=True):
                outcome.pooled[item] = row
        outcome.modes[result.mode] = outcome.modes.get(result.mode, 0) + len(items)

    def _merge_in_place(self, items: Sequence[Item], rows: list[int], outcome: BatchScores) -> None:
        """Adapters of layers that the trace could not take apart: merged into a copy, which may be written."""
        if self._in_place is None:
            twin = self._backbone.twin()
            self._in_place = MergedRunner(twin, ExactSwapper(twin))
        try:
            with self._watch.stage("branch", rows, "merged"):
                merged = self._in_place.scores([items[row] for row in rows])
        finally:
            self._in_place.rest()
        for row, scores in zip(rows, merged.scores, strict=True):
            outcome.scores[row] = scores
        outcome.swap_s += merged.swap_s
        outcome.switches += merged.switches
        outcome.modes |= {"merged": outcome.modes.get("merged", 0) + len(rows)}

    def _make_hot(self, adapter: Adapter, split: SplitBackbone) -> None:
        """Make the adapter's own program."""
        self.programs.make(adapter.digest, lambda: split.bind(adapter))
