"""A batch of any mix of adapters: the trunk once for every image, then the branches, and the backbone is never written.

The branch takes its weights as inputs, so an adapter is other weights for the same program. Three ways to compute it
(docs/decisions.md): `hot`, the merged weights made constants of a program of the adapter's own; `merged`, computed into
a buffer and handed in; `mixed`, one program for many adapters with their factors side by side. Costs measured on this
machine decide for each batch. What has its batches to itself for a while gets trunk and branch in one program, `whole`.
dLoRA (OSDI 2024) chooses between merged and mixed likewise, for language models.

Who touches what. The engine's thread calls `scores` and `changed`; request threads call `ready`, `prepare`, `prefetch`,
`pin`, `forget` and `tier`; one background thread makes programs. No lock is held during an integrity check or while a
batch is computed. "Replaced" means that a new object takes the place of the old one, which nobody writes any more, so a
reader needs no lock: it keeps the one that it got.

| attribute | threads | lock or owner |
|---|---|---|
| `SegmentRunner._junctions` | all | `_cutting` to write; replaced |
| `._ready` | all | `_noting` to write, the first entry stays; a look-up is one dict operation |
| `._places` (`HotCache`) | all | its own `_lock` |
| `._making` | all | `_heating`, which may take the lock of `_places` inside |
| `._in_place` and its backbone | engine | the engine's thread |
| `.book` (`CostBook`) | all | its own `_lock`; measured without it; `lines` is a copy |
| `SplitBackbone.costs` | engine, background | `_lock` from reading to writing; replaced |
| `._wanted`, `._met`, `._steady` | all | `_lock` |
| `._mix` | all | `_lock` to write; replaced |
| `_Mix.prepared` | all | its own `lock`; factors are laid out without it |
| `SplitBackbone._mounted`, `._weights`, `._buffers`, `.pack_s` | engine | the engine's thread |
| `.company`, `FusedGroup._slots`, `._tries`, `._declined` | engine | the engine's thread |
| `._known_shapes`, `._shapes` | background | the background thread |
| `._joined_nbytes`, `.hot_nbytes` | engine reads, background writes | the background thread; one number at a time |
| `._trunk`, `._branch`, `._parametric`, `._folded`, `._digests` | all | set when made, then only read |
| `Clones._clones` (backbone/pristine.py) | all | its own `_lock`, held until a new clone is checked; `kept` is a copy |
| `Unwritten._checked` | all | its own `_lock`; checked without it |
| `Backbone._refusals` | all | entries are only added, and equal whoever adds them |
| `Backbone.tensors` | all read, engine writes | the engine's thread, in `MergedRunner` alone |
| `ExactSwapper._mounted` | engine, `tier` reads it once | the engine's thread; replaced |
| `OpenVinoProgram.requests`, `.seen` | the caller's | whoever calls the program, the engine once it has a place |
| `.exact` | the caller's, `lensmount-exact` | the caller's reserves an entry, the other thread fills it |
| OpenVINO's models | all | `OpenVino._cloning`; afterwards a thread has a clone of its own |
| warning filters, `os.environ` of the process | all | `_converting` (openvino), `Inductor._environment` |
| kernels of delta/addmm.py | all | the lock of `KernelCache` |
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import ORIENTATIONS, Adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.machine import release_memory
from lensmount_adapters.programs.executor import Executor, Program
from lensmount_adapters.runners.costs import CostBook, Group, mixed_groups
from lensmount_adapters.runners.hot_cache import HotCache
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.runner import BatchScores, Item, by_adapter
from lensmount_adapters.runners.split_backbone import FusedGroup, Mixable, SplitBackbone
from lensmount_adapters.swap.exact import ExactSwapper

log = logging.getLogger(__name__)

WHOLE_WORTH = 0.125  # of a hot place's: a whole program saves that much less, so it gives way to whoever is not hot


@dataclass(frozen=True, slots=True)
class _Ready:
    """What was made ahead for one adapter."""

    junction: SplitBackbone
    mixable: Mixable | None


@dataclass(frozen=True, slots=True)
class _Share:
    """The images of one adapter in a batch: which items, and which rows of the activations."""

    adapter: Adapter
    ready: _Ready
    items: list[int]
    rows: list[int]  # orientation by orientation


@dataclass(frozen=True, slots=True)
class _Whole:
    """The place of a program from images to features, beside that of the branch alone."""

    of: Hashable  # an adapter's digest, or a company
    many: bool  # a program for one image at a time takes a fifth of the memory


_Found = tuple[_Share, Tensor, str]  # the features of a share, and how they were computed


class SegmentRunner:
    """`SegmentRunner(backbone, executor).scores(items)`; raises BackboneError where the backbone cannot be traced.

    `hot_bytes` bounds the merged weights that are kept; 0 keeps factors only. `book` holds what was measured before.
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
    ) -> None:
        self._backbone = backbone
        self._executor = executor
        self._max_batch = max_batch
        self.book = book or CostBook()
        self._segments = Segments(backbone.module)
        self._junctions: Mapping[int | None, SplitBackbone] = {}  # by cut
        self._ready: WeakKeyDictionary[Adapter, _Ready | None] = WeakKeyDictionary()
        self._places: HotCache[Program] = HotCache(hot_bytes)
        self._in_place: MergedRunner | None = None  # made when first needed
        self._making: set[Hashable] = set()
        self._noting = threading.Lock()  # of entries in `_ready`
        self._cutting = threading.Lock()  # held while a cut's programs are made: seconds
        self._heating = threading.Lock()  # of `_making`; the owner of the backbone takes it too
        self._background = ThreadPoolExecutor(1, thread_name_prefix="lensmount-prepare")

    def ready(self, adapter: Adapter) -> bool:
        return adapter in self._ready

    def prepare(self, adapter: Adapter) -> None:
        """The programs of the adapter's cut."""
        self._ready_for(adapter)

    def prefetch(self, adapter: Adapter) -> None:
        def work() -> None:
            ready = self._ready_for(adapter)
            if ready is not None and self._places.fits(ready.junction.hot_nbytes):
                self._heat(adapter, ready)

        self._later(work)

    def forget(self, digest: str) -> None:
        self._give_up(digest)
        for junction in self._junctions.values():
            junction.forget(digest)

    def pin(self, digest: str, pinned: bool) -> None:
        """A pinned adapter takes a hot place at its first image and keeps it."""
        self._places.pin(digest, pinned)

    def scores(self, items: Sequence[Item]) -> BatchScores:
        outcome = BatchScores([torch.empty(0)] * len(items))
        started = time.perf_counter()
        for junction, group in self._groups(items):
            self._answer(items, group, junction, outcome)
        whole = [index for index, item in enumerate(items) if self._ready_for(item.adapter) is None]
        if whole:
            self._merge_in_place(items, whole, outcome)
        outcome.forward_s = time.perf_counter() - started - outcome.swap_s
        return outcome

    def rest(self) -> None:
        """Nothing is ever mounted on the backbone itself."""

    def changed(self) -> list[str]:
        """Backbone tensors, folded ones and those of the copy to merge in that are not what they were at start."""
        folded = [f"{name} (folded)" for junction in self._junctions.values() for name in junction.changed()]
        copied = [] if self._in_place is None else [f"{name} (copy)" for name in self._in_place.changed()]
        return self._backbone.changed() + folded + copied

    def tier(self, digest: str) -> str | None:
        return "hot" if any(key in self._places for key in _keys(digest)) else None

    def describe(self) -> dict[str, str]:
        precision = str(self._executor.dtype).removeprefix("torch.")
        return {"mode": "segments", "executor": self._executor.name, "precision": precision}

    def nbytes(self) -> dict[str, int]:
        return {"hot": self._places.nbytes}

    def settle(self) -> None:
        """Wait until nothing is being made in the background; for tests and benchmarks."""
        self._background.submit(lambda: None).result()

    def close(self) -> None:
        self._background.shutdown(cancel_futures=True)

    def _ready_for(self, adapter: Adapter) -> _Ready | None:
        """None for an adapter that must be merged in place, on the whole backbone."""
        if adapter not in self._ready:
            ready = self._make_ready(adapter)
            with self._noting:  # the first of two threads counts, so that a batch sees one and the same to its end
                self._ready.setdefault(adapter, ready)
        return self._ready[adapter]

    def _make_ready(self, adapter: Adapter) -> _Ready | None:
        try:
            junction = self._junction([delta.target.name for delta in adapter.deltas])
        except BackboneError as error:
            log.warning("%s: merged in place, because no program could be made: %s", adapter.manifest.name, error)
            return None
        if not junction.covers(adapter):
            log.warning("%s: merged in place, because the trace has its layers only as a whole", adapter.manifest.name)
            return None
        ready = _Ready(junction, junction.mixable(adapter))
        if junction.must_grow():
            self._later(junction.grow)
        return ready

    def _junction(self, names: Sequence[str]) -> SplitBackbone:
        cut = self._segments.cut_before(names)
        known = self._junctions.get(cut)  # where it is made already, nobody waits while another cut is made
        if known is not None:
            return known
        with self._cutting:
            if cut not in self._junctions:
                halves = self._segments.halves_at(cut)
                made = SplitBackbone(self._backbone, halves, self._executor, self._max_batch, self.book)
                self._junctions = {**self._junctions, cut: made}  # a new dict: others iterate over the one before
            return self._junctions[cut]

    def _groups(self, items: Sequence[Item]) -> list[tuple[SplitBackbone, list[int]]]:
        """Items whose images go through one trunk in one pass: equal cut, size and number of orientations."""
        groups: dict[object, tuple[SplitBackbone, list[int]]] = {}
        for index, item in enumerate(items):
            ready = self._ready_for(item.adapter)
            if ready is not None:
                turns = item.adapter.manifest.preprocessing.orientations
                key = (id(ready.junction), item.image.shape, turns)
                groups.setdefault(key, (ready.junction, []))[1].append(index)
        return list(groups.values())

    def _answer(self, items: Sequence[Item], group: list[int], junction: SplitBackbone, outcome: BatchScores) -> None:
        turns = ORIENTATIONS[items[group[0]].adapter.manifest.preprocessing.orientations]
        parts = by_adapter([items[index] for index in group])
        order = [member for _, members in parts for member in members]  # so each adapter's images lie together
        images, rows = _distinct([items[group[member]].image for member in order])  # [U, 3, height, width]
        row_of, distinct = dict(zip(order, rows, strict=True)), len(images)
        if len(turns) > 1:
            images = torch.cat([orient(images, turn) for turn in turns])
        shares = [
            _Share(
                adapter,
                self._ready[adapter],  # type: ignore[arg-type]  # not None: `_groups` left those out
                [group[member] for member in members],
                [turn * distinct + row_of[member] for turn in range(len(turns)) for member in members],
            )
            for adapter, members in parts
        ]
        for share in shares:
            self._places.used(share.adapter.digest, len(share.rows))
        company = self._company(shares, junction)
        found = self._whole(shares, company, junction, images) or self._behind_trunk(
            shares, company, junction, images, outcome
        )
        for share, own, mode in found:  # programs first: between them Python's own data would leave the caches
            self._finish(share, own, mode, outcome)
        for share, _, _ in found:
            if self._places.wants(share.adapter.digest, share.ready.junction.hot_nbytes):
                self._heat(share.adapter, share.ready)

    def _behind_trunk(
        self,
        shares: list[_Share],
        company: tuple[FusedGroup, Program] | None,
        junction: SplitBackbone,
        images: Tensor,
        outcome: BatchScores,
    ) -> list[_Found]:
        """The trunk once for every image, then each share's branch in the way that costs least."""
        activations = junction.activations(images)
        found: list[_Found] = []
        if company is not None:
            inside = [share for share in shares if company[0].holds(share.ready.mixable)]
            shares = [share for share in shares if not company[0].holds(share.ready.mixable)]
            found += self._together(inside, *company, junction, activations)
        mixed = self._mix(shares, junction)
        for run in mixed:
            together = [shares[number] for number in run]
            members = [(share.ready.mixable, len(share.rows)) for share in together if share.ready.mixable is not None]
            features = junction.mixed(_take(activations, [row for share in together for row in share.rows]), members)
            outcome.swap_s += junction.pack_s
            parts = torch.split(features, [len(share.rows) for share in together])
            found += [(share, own, "mixed") for share, own in zip(together, parts, strict=True)]
        alone = set(range(len(shares))) - {number for run in mixed for number in run}
        return found + [self._alone(shares[number], activations, outcome) for number in sorted(alone)]

    def _whole(
        self, shares: list[_Share], company: tuple[FusedGroup, Program] | None, junction: SplitBackbone, images: Tensor
    ) -> list[_Found]:
        """All in one program from images to features, where one adapter or one company has the batch to itself.

        Nothing where there is no such program (one is made after a while), or where an image is for several adapters.
        """
        rows = [row for share in shares for row in share.rows]
        judged = junction.costs.together is not None  # a company's branch is measured by itself first
        if not junction.joins or len(set(rows)) < len(rows):
            return []
        own: Hashable
        if len(shares) == 1:
            own, branch, masks = shares[0].adapter.digest, self._places.get(shares[0].adapter.digest), []
        elif company is not None and judged and all(company[0].holds(share.ready.mixable) for share in shares):
            own, branch, masks = *company, [_mask(company[0], shares)]
        else:
            return []
        key = _Whole(own, len(rows) > 1)
        self._places.used(key, WHOLE_WORTH * len(rows))
        program = self._places.get(key)
        if program is not None:
            parts = torch.split(program(_take(images, rows), *masks), [len(share.rows) for share in shares])
            return [(share, part, "whole") for share, part in zip(shares, parts, strict=True)]
        shapes = [images.shape, *(mask.shape for mask in masks)]
        nbytes = junction.joined_nbytes(len(shapes), many=key.many)
        if branch is not None and self._places.wants(key, nbytes):
            self._make(key, lambda: junction.joined(branch, shapes, many=key.many))
        return []

    def _merge_in_place(self, items: Sequence[Item], rows: list[int], outcome: BatchScores) -> None:
        """Adapters of layers that the trace could not take apart: on a backbone of their own, which may be written."""
        if self._in_place is None:
            twin = self._backbone.twin()
            self._in_place = MergedRunner(twin, ExactSwapper(twin))
        try:
            merged = self._in_place.scores([items[row] for row in rows])
        finally:
            self._in_place.rest()
        for row, scores in zip(rows, merged.scores, strict=True):
            outcome.scores[row] = scores
        outcome.swap_s += merged.swap_s
        outcome.switches += merged.switches
        outcome.modes |= {"merged": outcome.modes.get("merged", 0) + len(rows)}

    def _mix(self, shares: list[_Share], junction: SplitBackbone) -> list[list[int]]:
        if len(shares) == 1 or junction.costs.mixed is None:  # one alone: the same bits whatever was asked before
            return []
        return mixed_groups(junction.costs, [self._group(share, junction) for share in shares])

    def _group(self, share: _Share, junction: SplitBackbone) -> Group:
        mixable = share.ready.mixable is not None and junction.holds(share.ready.mixable)
        return Group(len(share.rows), share.adapter.digest in self._places, mixable)

    def _company(self, shares: list[_Share], junction: SplitBackbone) -> tuple[FusedGroup, Program] | None:
        """The adapters that come together in steady company, where a program for all of them is there and pays."""
        members = [share.ready.mixable for share in shares if share.ready.mixable is not None]
        if len(members) < 2:
            return None
        before, company = junction.company, junction.meet(members)
        if company is None:
            return None
        if before is not None and before is not company:
            self._give_up(before)
        inside = [share for share in shares if company.holds(share.ready.mixable)]
        self._places.used(company, sum(len(share.rows) for share in inside))
        program = self._places.get(company)
        if program is None and self._places.wants(company, junction.hot_nbytes):
            junction.measure_together_anew()
            self._make(company, lambda: junction.bind_together(company))
        if program is None or not junction.together_pays([self._group(share, junction) for share in inside]):
            return None
        return company, program

    def _together(
        self, inside: list[_Share], company: FusedGroup, program: Program, junction: SplitBackbone, activations: Tensor
    ) -> list[_Found]:
        own = _take(activations, [row for share in inside for row in share.rows])
        mask = _mask(company, inside)
        started = time.perf_counter()
        features = program(own, mask)
        junction.try_together(len(own), time.perf_counter() - started)
        parts = torch.split(features, [len(share.rows) for share in inside])
        return [(share, part, "mixed") for share, part in zip(inside, parts, strict=True)]

    def _alone(self, share: _Share, activations: Tensor, outcome: BatchScores) -> _Found:
        junction = share.ready.junction
        own = _take(activations, share.rows)
        program = self._places.get(share.adapter.digest)
        started = time.perf_counter()
        if program is not None:
            features = program(own)
            several = len(outcome.scores) > len(share.items)
            junction.learn("hot", len(own), time.perf_counter() - started, alone=not several)
            return share, features, "hot"
        if junction.mount(share.adapter):
            outcome.switches += 1
            outcome.swap_s += time.perf_counter() - started
        return share, junction.run(own), "merged"

    def _finish(self, share: _Share, features: Tensor, mode: str, outcome: BatchScores) -> None:
        """The adapter's own head, the mean over orientations, scores."""
        mean = share.adapter.averaged(share.adapter.logits(features.to(self._backbone.device)))
        scores = probabilities(share.adapter.manifest.head, mean).cpu()  # [N, classes], or maps behind them
        for item, row in zip(share.items, scores, strict=True):
            outcome.scores[item] = row
        outcome.modes[mode] = outcome.modes.get(mode, 0) + len(share.items)

    def _heat(self, adapter: Adapter, ready: _Ready) -> None:
        """The adapter's own program."""
        self._make(adapter.digest, lambda: ready.junction.bind(adapter))

    def _make(self, key: Hashable, make: Callable[[], Program]) -> None:
        """In the background, once, and into a place."""
        with self._heating:
            if key in self._making or key in self._places:
                return
            self._making.add(key)

        def work() -> None:
            try:
                program = make()
                with self._heating:
                    if key in self._making:
                        self._places.put(key, program, program.nbytes)
            finally:
                with self._heating:
                    self._making.discard(key)

        self._later(work)

    def _give_up(self, key: Hashable) -> None:
        with self._heating:
            for one in _keys(key):
                self._making.discard(one)  # a program under way is not put
                self._places.drop(one)

    def _later(self, work: Callable[[], None]) -> None:
        def logged() -> None:
            try:
                work()
            except Exception:  # the background thread's boundary: a program that cannot be made is done without
                log.exception("no program was made; answers come the slower way")
            release_memory()  # compilers and admission leave a lot of it behind

        with suppress(RuntimeError):  # closed: nothing will be asked for any more
            self._background.submit(logged)


def _keys(own: Hashable) -> tuple[Hashable, ...]:
    """Every place that an adapter or a company may have."""
    return own, _Whole(own, many=False), _Whole(own, many=True)


def _distinct(images: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """The images without repetitions, and for each given one its row."""
    rows: dict[int, int] = {}
    row_of = [rows.setdefault(id(image), len(rows)) for image in images]
    distinct = {id(image): image for image in images}
    return torch.stack(list(distinct.values())), row_of


def _mask(company: FusedGroup, shares: Sequence[_Share]) -> Tensor:
    return company.mask([(share.ready.mixable, len(share.rows)) for share in shares if share.ready.mixable])


def _take(activations: Tensor, rows: list[int]) -> Tensor:
    """Without a copy where the rows follow one another."""
    first, end = rows[0], rows[0] + len(rows)
    if rows == list(range(first, end)):
        return activations[first:end]
    return activations.index_select(0, torch.tensor(rows, device=activations.device))
