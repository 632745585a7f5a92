"""One cut of the backbone: trunk and branch as programs, the ways to compute the branch, and what each costs here."""

from __future__ import annotations

import copy
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.fingerprint import differing, nothing, resident_digest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import SwapError
from lensmount_adapters.graph.functional import FunctionalBranch, frozen, functional_branch
from lensmount_adapters.graph.pooling import flat_columns, pooling_of, space_of
from lensmount_adapters.graph.segments import Halves
from lensmount_adapters.inputs.upload import upload
from lensmount_adapters.programs.clock import clock_of
from lensmount_adapters.programs.executor import Compiled, Executor, InPlace, Program, RoundsLayers, ShowsTensors
from lensmount_adapters.runners.costs import CostBook, Costs, LinearCost, seconds_of
from lensmount_adapters.runners.gpu.graph_mounting import GraphMounting
from lensmount_adapters.runners.gpu.mixed_triton import ops_for
from lensmount_adapters.runners.gpu.slab import SLOTS, Slab
from lensmount_adapters.runners.mixed import mixed
from lensmount_adapters.runners.mixed_layout import Layout
from lensmount_adapters.runners.mixed_program import Mixable, MixedProgram
from lensmount_adapters.runners.mounting import BufferMounting, Mounting
from lensmount_adapters.trunks.identity import FLOAT, trunk_identity
from lensmount_adapters.trunks.int8 import Int8Trunk
from lensmount_adapters.trunks.ranges import Ranges

MERGED_BYTES_PER_S = 3e9
MEASURED_IMAGES = 8
LEARNING = 0.1  # how far one observation moves a cost
RANKS = (4, 8, 16, 32, 64)  # room for factors in a mixed batch; an adapter of a higher rank is merged


class SplitBackbone:
    """`split.mount(adapter)`, then `features = split.run(split.activations(images))`.

    The engine's thread owns it. `covers`, `mixable`, `must_grow`, `forget`, `weights_of`, `trunk_again` and
    `branch_again` are safe from any thread; `bind` and
    `grow` are for one background thread. The docstring of the package says which thread touches what.
    """

    def __init__(
        self,
        backbone: Backbone,
        halves: Halves,
        executor: Executor,
        max_batch: int,
        book: CostBook | None = None,
        int8: Int8Trunk | None = None,
        ranges: Callable[[Manifest], Ranges] = lambda manifest: {},
    ) -> None:
        self._executor = executor
        self._ranges = ranges
        self._book = book or CostBook()
        self._max_batch = max_batch
        self.device = backbone.device
        quantised = FLOAT if int8 is None else int8.digest
        self.key = f"{backbone.name}-{backbone.fingerprint[7:23]}-{halves.at or 'whole'}{int8_suffix(quantised)}"
        self.trunk_identity = trunk_identity(backbone, halves.at, executor, quantised)
        self._int8 = int8
        self._images = backbone.zeros(2)
        self._trunk = halves.trunk
        self.trunk: Program | None = None
        self._shapes: nn.Module | None = None  # the trunk, to compute the shape of what it gives
        if halves.trunk is not None:
            trunk = frozen(halves.trunk)
            self._shapes = halves.trunk if self.device.type == "cpu" else copy.deepcopy(trunk).to("meta")
            self.trunk = self._compiled_trunk(trunk) if int8 is None else int8.program
        self._functional = functional_branch(halves.branch, backbone)
        self._folded = dict(zip(self._functional.inputs, self._functional.base, strict=True))
        self.example = self.activations(self._images)
        own = tuple(self._images.shape[1:]), torch.Size((1, *self.example.shape[1:]))
        self._known_shapes: dict[tuple[int, ...], torch.Size] = dict([own])
        self.pooling = pooling_of(backbone, self.example)
        self.space = space_of(backbone, halves.at) if self.trunk is not None else None
        self._branch = self.branch_again()
        if isinstance(self._branch, ShowsTensors):
            self._folded |= self._branch.resident()
        if isinstance(self.trunk, ShowsTensors):
            self._folded |= {f"trunk {name}": tensor for name, tensor in self.trunk.resident().items()}
        self._digests = {name: resident_digest(tensor) for name, tensor in self._folded.items()}
        self._mounting = _mounting(self._functional, self._branch)
        self._merge_clock = clock_of(self.device)
        self._mounted: str | None = None
        self._mixed: MixedProgram | None = None
        self._wanted: tuple[Layout, int] | None = None  # the layout and rank that a mixed program must have room for
        self._lock = threading.Lock()
        self.pack_s = 0.0  # of the last mixed batch
        self.feature_dim = backbone.feature_dim
        base = self._branch.bind(self._functional.base)
        self.hot_nbytes = base.nbytes
        self.costs = self._measure(base)

    def activations(self, images: Tensor) -> Tensor:
        """What enters the branch for preprocessed images [N, 3, (D,) H, W]; the images themselves without a trunk."""
        images = upload(images, self.device)
        return images if self.trunk is None else self.trunk(images)

    def pools(self, adapter: Adapter) -> bool:
        """Whether the adapter has statistics of this cut's activations, with which pooled vectors are compared."""
        familiarity = adapter.trust.block.familiarity if adapter.trust is not None else None
        return familiarity is not None and familiarity.space == self.space

    @functools.cached_property
    def pooling_program(self) -> Program:
        """The pooling as a program, to be joined with others. Only the background thread needs it."""
        return self._executor.compile(self.pooling.traced(), (self.example,), (), f"{self.key}-pooling").bind(())

    def kept_columns(self, *, pooled: bool) -> Program:
        """From activations to columns: pooled ones if wanted, then all. Only the background thread needs it."""
        columns = self.pooling.traced_with_activations() if pooled else flat_columns()
        key = f"{self.key}-kept{'-pooled' * pooled}"
        return self._executor.compile(columns, (self.example,), (), key).bind(())

    def trunk_cost(self) -> LinearCost:
        """Seconds of the trunk, for images of the backbone's own size."""
        return self._line("trunk", self.activations, self._images)

    # for another thread, because only one thread may run a program

    def trunk_again(self) -> Program | None:
        """The trunk compiled once more, or None without a trunk."""
        if self._int8 is not None:
            return self._int8.again()
        return None if self._trunk is None else self._compiled_trunk(frozen(self._trunk))

    def branch_again(self) -> Compiled:
        """The branch compiled once more."""
        inputs, base = (self.example,), self._functional.base
        return self._executor.compile(self._functional.module, inputs, base, f"{self.key}-branch")

    # one adapter's merged weights

    def covers(self, adapter: Adapter) -> bool:
        """Whether everything that the adapter changes is an input of the branch."""
        return self._functional.covers(adapter.deltas)

    def weights_of(self, adapter: Adapter) -> list[Tensor]:
        """The merged weights of the branch, in the order of its inputs. Any thread may call it."""
        merged = self._functional.merged(adapter.deltas)
        pairs = zip(self._functional.inputs, self._functional.base, strict=True)
        return [merged.get(name, value) for name, value in pairs]

    def bind(self, adapter: Adapter) -> Program:
        """A program for this adapter alone, with its merged weights as constants; in int8 if its record allows that."""
        shape = self.shape_at(adapter.manifest.preprocessing.input_shape)
        weights, ranges = self.weights_of(adapter), self._ranges(adapter.manifest)
        if ranges and isinstance(self._branch, RoundsLayers):
            by_index = {index: ranges[name] for index, name in enumerate(self._functional.inputs) if name in ranges}
            program = self._branch.bind_int8(weights, by_index, [shape])
        else:
            program = self._branch.bind(weights, [shape])
        self.hot_nbytes = program.nbytes
        return program

    def mount(self, adapter: Adapter) -> bool:
        """Merge the adapter into the buffers. Returns False if it is there already. Raises SwapError.

        Each buffer is written as `base + delta` in one pass, so nothing of the adapter before it remains.
        """
        if self._mounted == adapter.digest:
            return False
        self._mounted = None
        try:
            with self._merge_clock.timed():
                self._mounting.mount(adapter)
        except Exception as error:
            raise SwapError(f"merging {adapter.manifest.name} failed; the base is untouched") from error
        seconds = self._merge_clock.seconds()
        if seconds is not None:
            self._correct(merge=_nearer(self.costs.merge, seconds))
        self._mounted = adapter.digest
        return True

    def run(self, activations: Tensor) -> Tensor:
        """Features [N, feature_dim] with the adapter that is mounted."""
        return self._mounting.run(activations)

    # many adapters in one batch

    @property
    def mixed_program(self) -> MixedProgram | None:
        """The current mixed program, or None before the first. It is only replaced by one with more room."""
        return self._mixed

    def mixable(self, adapter: Adapter) -> Mixable | None:
        """The adapter as a member of mixed batches, or None if it must be merged."""
        layout = Layout.of(self._functional, adapter.deltas)
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
        """Whether there are adapters that the mixed program has no room for."""
        with self._lock:
            return self._wanted is not None and not (self._mixed and self._mixed.has_room(*self._wanted))

    def grow(self) -> None:
        """Build a new mixed program with room for every adapter seen. The old one is used until it is ready."""
        with self._lock:
            if self._wanted is None or (self._mixed and self._mixed.has_room(*self._wanted)):
                return
            layout, rank = self._wanted
        per_sample = self._executor.name != "openvino"  # runners/mixed.py says why
        in_place = isinstance(self._branch, InPlace)
        slots = max(SLOTS, self._max_batch) if in_place else self._max_batch
        built = mixed(self._functional, layout, slots, rank, per_sample=per_sample, ops=ops_for(self.device))
        name = f"{hashlib.sha256(repr(layout).encode()).hexdigest()[:16]}-{rank}-{slots}"
        inputs, idle = (self.example, built.mask([0] * len(self.example))), built.pack([])
        compiled = self._executor.compile(built.module, inputs, idle, f"{self.key}-{name}")
        slab = Slab(built, compiled) if isinstance(compiled, InPlace) else None
        program = MixedProgram(built, compiled, self.example.shape, slab=slab)
        two = self.example[:1].expand(2, *self.example.shape[1:]).contiguous()
        program.run(two, [0, 0], idle)  # so that nothing is compiled in the engine's thread, even if the cost is known
        line = self._line(f"mixed {name}", lambda x: program.run(x, [0] * len(x), idle))
        with self._lock:
            self._mixed = program
            self.costs = replace(self.costs, mixed=line)

    def has_room(self, member: Mixable) -> bool:
        """Whether the current mixed program has room for the adapter."""
        program = self._mixed
        return program is not None and program.has_room(member.layout, member.rank)

    def mixed(self, activations: Tensor, members: Sequence[tuple[Mixable, int]]) -> Tensor:
        """Features [N, feature_dim]. Each member comes with the number of its rows, which lie together in order."""
        program = self._mixed
        assert program is not None  # `has_room` was asked, and a program is only replaced by one with more room
        prepared = [program.factors_of(member) for member, _ in members]  # once per adapter, so it is not in the costs
        started = time.perf_counter()
        slots, factors = program.place([member.digest for member, _ in members], prepared)
        self.pack_s = time.perf_counter() - started
        self._correct(pack=_nearer(self.costs.pack, self.pack_s / len(members)))
        rows = [slot for slot, (_, count) in zip(slots, members, strict=True) for _ in range(count)]
        started = time.perf_counter()
        features = program.run(activations, rows, factors)
        self.learn("mixed", len(rows), time.perf_counter() - started)
        return features

    def learn(self, way: Literal["hot", "mixed"], images: int, seconds: float, *, alone: bool = False) -> None:
        """Move the line of a way of computing towards what a run in a batch of several adapters took.

        `alone`: the batch had one adapter. Its weights stay in the CPU's caches, so the run only shows whether the line
        is far too high, as it is if it was measured while other work ran. Nothing is learned on GPUs, where a call
        returns before its result is computed.
        """
        if self.device.type != "cpu":
            return
        with self._lock:  # held from reading to writing, so that the line of a program just made by `grow` is not lost
            line: LinearCost | None = getattr(self.costs, way)
            if line is not None and not (alone and seconds > line(images) / 2):
                learned: dict[str, Any] = {way: line.towards(images, seconds, LEARNING)}
                self.costs = replace(self.costs, **learned)

    def forget(self, digest: str) -> None:
        """Drop the prepared factors of an adapter that left memory."""
        program = self._mixed
        if program is not None:
            program.forget(digest)
        self._mounting.forget(digest)

    def changed(self, between: Callable[[], None] = nothing) -> list[str]:
        """Names of folded base weights, and of the copies that compute, that differ from when they were made."""
        return differing(self._folded, self._digests, between)

    def _compiled_trunk(self, trunk: fx.GraphModule) -> Program:
        compiled = self._executor.compile(trunk, (self._images,), (), f"{self.key}-trunk")
        return compiled.bind((), [self._images.shape])

    def shape_at(self, image: tuple[int, ...]) -> torch.Size:
        """The shape of the activations of one image of this shape.

        On a CPU they are computed once: that takes milliseconds, and the first use of the meta device imports
        TorchDynamo, which takes seconds. On a GPU, another thread may be capturing a graph.
        """
        if self._shapes is None:
            return torch.Size((1, *image))
        if image not in self._known_shapes:
            device = "cpu" if self.device.type == "cpu" else "meta"
            with torch.inference_mode():
                self._known_shapes[image] = self._shapes(self._images.new_zeros((1, *image), device=device)).shape
        return self._known_shapes[image]

    def _correct(self, **costs: Any) -> None:
        """Replace costs that the owner learned. `grow` may add the line of a new program at the same time."""
        with self._lock:
            self.costs = replace(self.costs, **costs)

    def _wait(self) -> None:
        """Wait until the GPU has computed what this thread launched.

        Waiting for the whole device would break a graph capture in another thread.
        """
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def _measure(self, base: Program) -> Costs:
        weights = self._functional.base
        nbytes = sum(tensor.nbytes for tensor in weights)
        return Costs(
            hot=self._line("hot", base),
            merged=self._line("merged", lambda x: self._branch.run((x,), weights)),
            merge=nbytes / MERGED_BYTES_PER_S,  # a first guess, until an adapter was merged
            mixed=None,
            pack=0.0,
            slots=self._max_batch,
        )

    def _line(self, way: str, work: Callable[[Tensor], Tensor], example: Tensor | None = None) -> LinearCost:
        """Seconds of the branch, or of `work` on inputs like the example, for images of the backbone's own size."""
        like = self.example if example is None else example

        def measure() -> LinearCost:
            one = like[:1].contiguous()
            count = min(MEASURED_IMAGES, max(2, self._max_batch))
            many = like[:1].expand(count, *like.shape[1:]).contiguous()
            seconds_one, seconds_many = (seconds_of(partial(work, x), wait=self._wait) for x in (one, many))
            return LinearCost.through(seconds_one, seconds_many, count)

        return self._book.line(f"{self.key}: {way}", measure)


def int8_suffix(quantised: str) -> str:
    """What the keys of an int8 trunk's programs have, and those of a float one have not."""
    return f"-int8-{quantised[7:23]}" if quantised else ""


def _mounting(functional: FunctionalBranch, branch: Compiled) -> Mounting:
    return GraphMounting(functional, branch) if isinstance(branch, InPlace) else BufferMounting(functional, branch)


def _nearer(before: float, seen: float) -> float:
    """A running mean, which forgets slowly."""
    return seen if before == 0 else before + LEARNING * (seen - before)
