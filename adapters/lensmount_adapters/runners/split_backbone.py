"""One cut of the backbone: trunk and branch as programs, the ways to compute the branch, and what each costs here."""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.fingerprint import tensor_digest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.errors import SwapError
from lensmount_adapters.graph.functional import frozen, functional_branch
from lensmount_adapters.graph.segments import Halves
from lensmount_adapters.programs.executor import Compiled, Executor, Joining, Program
from lensmount_adapters.runners.costs import CostBook, Costs, Group, LinearCost, company_pays, seconds_of
from lensmount_adapters.runners.mixed import Layout, Mixed, PackedFactors, mixed

MERGED_BYTES_PER_S = 3e9
MEASURED_IMAGES = 8
LEARNING = 0.1  # how far one observation moves a cost
STEADY_BATCHES = 16  # without a new adapter, before those that come together are bound together
FIRST_TRIES = 4
MEASURE_ANEW_AFTER = 200  # batches that did without the company's program: it may have been measured beside other work
KEPT_PREPARED = 256  # adapters whose factors stay laid out; for another one it takes 2 ms
RANKS = (4, 8, 16, 32, 64)  # room for factors in a mixed batch; an adapter of a higher rank is merged


@dataclass(frozen=True, slots=True)
class Mixable:
    """An adapter that a mixed batch can hold: which layers it changes, and its highest rank."""

    digest: str
    deltas: tuple[Delta, ...]
    layout: Layout
    rank: int


@dataclass(frozen=True, slots=True)
class _Mix:
    """The mixed program and the factors laid out for it so far."""

    mixed: Mixed
    compiled: Compiled
    prepared: OrderedDict[str, PackedFactors] = field(default_factory=OrderedDict)  # those used last
    lock: threading.Lock = field(default_factory=threading.Lock)  # of `prepared`

    def factors_of(self, one: Mixable) -> PackedFactors:
        """Safe from any thread."""
        with self.lock:
            found = self.prepared.get(one.digest)
        if found is None:
            found = self.mixed.prepare(one.deltas)  # 2 ms, so without the lock
        with self.lock:
            self.prepared[one.digest] = found
            self.prepared.move_to_end(one.digest)
            if len(self.prepared) > KEPT_PREPARED:
                self.prepared.popitem(last=False)
        return found

    def forget(self, digest: str) -> None:
        with self.lock:
            self.prepared.pop(digest, None)

    def has_room(self, layout: Layout, rank: int) -> bool:
        return self.mixed.rank >= rank and self.mixed.layout.covers(layout)


@dataclass(frozen=True, eq=False)
class FusedGroup:
    """Adapters that are asked for together, whose factors may become constants of one mixed program.

    Packing factors and handing them in is a fifth of a full mixed batch's time, and more of a small one's.
    """

    members: tuple[Mixable, ...]
    mix: _Mix

    def holds(self, one: Mixable | None) -> bool:
        return one is not None and one.digest in self._slots

    def is_of(self, members: Sequence[Mixable], mix: _Mix) -> bool:
        return mix is self.mix and len(members) == len(self.members) and all(map(self.holds, members))

    def mask(self, members: Sequence[tuple[Mixable, int]]) -> Tensor:
        """For activations that belong to these in turn, so many to each."""
        return self.mix.mixed.mask([self._slots[one.digest] for one, count in members for _ in range(count)])

    @cached_property
    def _slots(self) -> dict[str, int]:
        return {one.digest: slot for slot, one in enumerate(self.members)}


class SplitBackbone:
    """`junction.mount(adapter)`, then `features = junction.run(junction.activations(images))`.

    The engine's thread owns it. `covers`, `mixable`, `must_grow` and `forget` are safe from any thread; `bind`,
    `joined`, `bind_together` and `grow` are for one background thread. segment_runner.py has the table of who touches
    what.
    """

    def __init__(
        self, backbone: Backbone, halves: Halves, executor: Executor, max_batch: int, book: CostBook | None = None
    ) -> None:
        self._executor = executor
        self._book = book or CostBook()
        self._max_batch = max_batch
        self._device = backbone.device
        self._key = f"{backbone.name}-{backbone.fingerprint[7:23]}-{halves.at or 'whole'}"
        images = backbone.zeros(2)
        self._trunk: Program | None = None
        self._shapes: nn.Module | None = None  # the trunk without its values
        self._known_shapes: dict[tuple[int, ...], torch.Size] = {}
        if halves.trunk is not None:
            trunk = frozen(halves.trunk)
            self._shapes = copy.deepcopy(trunk).to("meta")
            self._trunk = executor.compile(trunk, (images,), (), f"{self._key}-trunk").bind((), [images.shape])
        self._parametric = functional_branch(halves.branch, backbone)
        self._folded = dict(zip(self._parametric.inputs, self._parametric.base, strict=True))
        self._digests = {name: tensor_digest(tensor) for name, tensor in self._folded.items()}
        self._example = self.activations(images)
        self._branch: Compiled = executor.compile(
            self._parametric.module, (self._example,), self._parametric.base, f"{self._key}-branch"
        )
        self._buffers: dict[str, Tensor] = {}
        self._weights: list[Tensor] = list(self._parametric.base)
        self._mounted: str | None = None
        self._mix: _Mix | None = None
        self._wanted: tuple[Layout, int] | None = None  # what a mixed program must hold
        self._met: OrderedDict[str, Mixable] = OrderedDict()  # in batches of several adapters, those met last
        self._steady = 0  # such batches in turn that brought nobody new
        self.company: FusedGroup | None = None
        self._declined = 0
        self._tries: list[float] = []  # seconds an image of the company's program, until its cost is known
        self._joined_nbytes: dict[tuple[int, bool], int] = {}
        self._lock = threading.Lock()
        self.pack_s = 0.0  # of the last mixed batch
        base = self._branch.bind(self._parametric.base)
        self.hot_nbytes = base.nbytes
        self.costs = self._measure(base)

    def activations(self, images: Tensor) -> Tensor:
        """Preprocessed images [N, 3, (D,) H, W] to what enters the branch; the images where there is no trunk."""
        images = images.to(self._device)
        return images if self._trunk is None else self._trunk(images)

    @property
    def joins(self) -> bool:
        """Whether a program of trunk and branch takes less time than the two."""
        return self._trunk is not None and isinstance(self._executor, Joining)

    def joined_nbytes(self, inputs: int, *, many: bool) -> int:
        """What the last program that `joined` made of so many inputs holds; 0 before the first."""
        return self._joined_nbytes.get((inputs, many), 0)

    def joined(self, branch: Program, shapes: Sequence[Sequence[int]], *, many: bool) -> Program:
        """The trunk and this program behind it as one, for one image at a time or for `many`.

        `shapes`: of the images and of the branch's other inputs; the first dimension does not matter.
        """
        assert self._trunk is not None
        assert isinstance(self._executor, Joining)  # `joins` said so
        program = self._executor.join(self._trunk, branch, shapes, many=many)
        self._joined_nbytes[len(shapes), many] = program.nbytes
        return program

    # the adapter's merged weights

    def covers(self, adapter: Adapter) -> bool:
        """Whether everything that the adapter changes is an input of the branch."""
        return self._parametric.covers(adapter.deltas)

    def bind(self, adapter: Adapter) -> Program:
        """A program of the adapter's own, its merged weights constant."""
        merged = self._parametric.merged(adapter.deltas)
        names, base = self._parametric.inputs, self._parametric.base
        weights = [merged.get(name, value) for name, value in zip(names, base, strict=True)]
        program = self._branch.bind(weights, [self._shape_at(adapter.manifest.preprocessing.input_shape)])
        self.hot_nbytes = program.nbytes
        return program

    def mount(self, adapter: Adapter) -> bool:
        """Merge the adapter into this junction's buffers; False where it is there already. Raises SwapError.

        Each buffer is written as `base + delta` in one pass, so nothing of the adapter before stays.
        """
        if self._mounted == adapter.digest:
            return False
        self._mounted = None
        started = time.perf_counter()
        try:
            merged = self._parametric.merged(adapter.deltas, self._buffers)
        except Exception as error:
            raise SwapError(f"merging {adapter.manifest.name} broke off; the base is untouched") from error
        self._buffers |= merged
        self._correct(merge=_nearer(self.costs.merge, time.perf_counter() - started))
        pairs = zip(self._parametric.inputs, self._parametric.base, strict=True)
        self._weights = [merged.get(name, value) for name, value in pairs]
        self._mounted = adapter.digest
        return True

    def run(self, activations: Tensor) -> Tensor:
        """Features [N, feature_dim] with what is mounted."""
        return self._branch.run((activations,), self._weights)

    # many adapters in one batch

    def mixable(self, adapter: Adapter) -> Mixable | None:
        """The adapter as a mixed batch would hold it; None where it must be merged."""
        layout = Layout.of(self._parametric, adapter.deltas)
        rank = max((delta.rank for delta in adapter.deltas if delta.rank is not None), default=1)
        if layout is None or rank > RANKS[-1]:
            return None
        room = next(r for r in RANKS if r >= rank)
        with self._lock:
            if self._wanted is None:
                self._wanted = (layout, room)
            else:
                self._wanted = (self._wanted[0] | layout, max(self._wanted[1], room))
        return Mixable(adapter.digest, adapter.deltas, layout, rank)

    def must_grow(self) -> bool:
        """Whether adapters came that the mixed program has no room for."""
        with self._lock:
            return self._wanted is not None and not (self._mix and self._mix.has_room(*self._wanted))

    def grow(self) -> None:
        """Build the mixed program anew for every adapter seen; the old one answers meanwhile."""
        with self._lock:
            if self._wanted is None or (self._mix and self._mix.has_room(*self._wanted)):
                return
            layout, rank = self._wanted
        per_sample = self._executor.name != "openvino"  # runners/mixed.py says why
        built = mixed(self._parametric, layout, self._max_batch, rank, per_sample=per_sample)
        name = f"{hashlib.sha256(repr(layout).encode()).hexdigest()[:16]}-{rank}-{self._max_batch}"
        inputs, idle = (self._example, built.mask([0] * len(self._example))), built.pack([])
        mix = _Mix(built, self._executor.compile(built.module, inputs, idle, f"{self._key}-{name}"))
        line = self._line(f"mixed {name}", lambda x: self._mixed(mix, x, idle, [0] * len(x)))
        with self._lock:
            self._mix = mix
            self.costs = replace(self.costs, mixed=line)

    def learn(
        self, way: Literal["hot", "mixed", "together"], images: int, seconds: float, *, alone: bool = False
    ) -> None:
        """Move a line towards what a run in a batch of many took.

        `alone`: the batch had one adapter. Its weights stay in the caches, so that teaches nothing but that a line is
        far too high, as one measured beside other work. Not on GPUs, where a call returns before it is computed.
        """
        if self._device.type != "cpu":
            return
        with self._lock:  # from the reading on, or the line of a program that `grow` has just made would be lost
            line: LinearCost | None = getattr(self.costs, way)
            if line is not None and not (alone and seconds > line(images) / 2):
                learned: dict[str, Any] = {way: line.towards(images, seconds, LEARNING)}
                self.costs = replace(self.costs, **learned)

    def holds(self, one: Mixable) -> bool:
        mix = self._mix
        return mix is not None and mix.has_room(one.layout, one.rank)

    def mixed(self, activations: Tensor, members: Sequence[tuple[Mixable, int]]) -> Tensor:
        """Features [N, feature_dim] of activations that belong to the adapters in turn, so many to each."""
        mix = self._mix
        assert mix is not None  # `holds` said so, and a mixed program is only replaced by one with more room
        prepared = [mix.factors_of(one) for one, _ in members]  # once for an adapter, so it is no part of the costs
        started = time.perf_counter()
        factors = mix.mixed.pack(prepared)
        self.pack_s = time.perf_counter() - started
        self._correct(pack=_nearer(self.costs.pack, self.pack_s / len(members)))
        rows = [row for row, (_, count) in enumerate(members) for _ in range(count)]
        started = time.perf_counter()
        features = self._mixed(mix, activations, factors, rows)
        self.learn("mixed", len(rows), time.perf_counter() - started)
        return features

    def meet(self, members: Sequence[Mixable]) -> FusedGroup | None:
        """The adapters of one batch; the company to compute them in, once it has been steady for a while.

        None on GPUs, where nothing measures what a company's program costs.
        """
        if self._device.type != "cpu":
            return None
        with self._lock:
            self._steady = self._steady + 1 if all(one.digest in self._met for one in members) else 0
            for one in members:
                self._met[one.digest] = one
                self._met.move_to_end(one.digest)
            while len(self._met) > self._max_batch:
                self._met.popitem(last=False)
            met, mix = tuple(self._met.values()), self._mix
            steady = self._steady >= STEADY_BATCHES
        if steady and mix is not None and all(map(self.holds, met)):
            known = self.company is not None and self.company.is_of(met, mix)
            self.company = self.company if known else FusedGroup(met, mix)
        return self.company

    def bind_together(self, company: FusedGroup) -> Program:
        """A mixed program with the company's factors constant, of the inputs activations and mask."""
        mixed = company.mix.mixed
        factors = mixed.pack([company.mix.factors_of(one) for one in company.members])
        mask = mixed.mask([0])
        return company.mix.compiled.bind(factors, [self._example.shape, mask.shape])

    def measure_together_anew(self) -> None:
        """Forget what the company's program costs: its next runs say it. Only the engine's thread calls this."""
        self._declined, self._tries = 0, []
        self._correct(together=None)

    def together_pays(self, groups: Sequence[Group]) -> bool:
        """Whether these groups of the company are cheaper together; now and then that is measured anew."""
        if company_pays(self.costs, groups):
            return True
        self._declined += 1
        if self._declined == MEASURE_ANEW_AFTER:
            self.measure_together_anew()
        return False

    def try_together(self, images: int, seconds: float) -> None:
        """What a run of the company's program took. The first few are its measurement, as nothing runs beside them."""
        if self.costs.together is None:
            self._tries.append(seconds / images)
            if len(self._tries) == FIRST_TRIES:
                self._correct(together=LinearCost(0.0, min(self._tries)))
        else:
            self.learn("together", images, seconds)

    def forget(self, digest: str) -> None:
        """Give up what was laid out for an adapter that left memory."""
        with self._lock:
            self._met.pop(digest, None)
            mix = self._mix
        if mix is not None:
            mix.forget(digest)

    def changed(self) -> list[str]:
        """Folded base weights that are not what they were when they were made."""
        return [name for name, digest in self._digests.items() if tensor_digest(self._folded[name]) != digest]

    def _shape_at(self, image: tuple[int, ...]) -> torch.Size:
        """The shape of the activations of one image of this shape, without computing them."""
        if self._shapes is None:
            return torch.Size((1, *image))
        if image not in self._known_shapes:
            with torch.inference_mode():
                self._known_shapes[image] = self._shapes(torch.zeros(1, *image, device="meta")).shape
        return self._known_shapes[image]

    def _correct(self, **costs: Any) -> None:
        """The owner learns while `grow` adds the line of a new program."""
        with self._lock:
            self.costs = replace(self.costs, **costs)

    def _mixed(self, mix: _Mix, activations: Tensor, factors: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
        return mix.compiled.run((activations, mix.mixed.mask(rows)), factors)

    def _wait(self) -> None:
        """Until the GPU has computed what this thread launched. Not the whole device: that breaks another's capture."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    def _measure(self, base: Program) -> Costs:
        weights = self._parametric.base
        nbytes = sum(tensor.numel() * tensor.element_size() for tensor in weights)
        return Costs(
            hot=self._line("hot", base),
            merged=self._line("merged", lambda x: self._branch.run((x,), weights)),
            merge=nbytes / MERGED_BYTES_PER_S,  # a first guess, until one was merged
            mixed=None,
            pack=0.0,
            slots=self._max_batch,
        )

    def _line(self, way: str, work: Callable[[Tensor], Tensor]) -> LinearCost:
        """Seconds of the branch, for images of the backbone's own size."""

        def measure() -> LinearCost:
            one = self._example[:1].contiguous()
            count = min(MEASURED_IMAGES, max(2, self._max_batch))
            many = self._example[:1].expand(count, *self._example.shape[1:]).contiguous()
            alone, together = (seconds_of(partial(work, x), wait=self._wait) for x in (one, many))
            return LinearCost.through(alone, together, count)

        return self._book.line(f"{self._key}: {way}", measure)


def _nearer(before: float, found: float) -> float:
    """The mean, which forgets slowly."""
    return found if before == 0 else before + LEARNING * (found - before)
