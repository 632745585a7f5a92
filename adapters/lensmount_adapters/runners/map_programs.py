"""Programs from what enters the branch to the last maps, whose mean is the features: for class activation maps.

A program of maps is the adapter's branch without its last step, so it costs what a prediction costs. It is made when a
map is first asked for and kept in the same hot cache. Without room there, the adapter's weights are passed in. For one
image at a time, trunk and branch are joined into one program soon after, as they are for predictions
(runners/end_to_end.py says why).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.fingerprint import differing, nothing, resident_digest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.graph.functional import functional_branch
from lensmount_adapters.graph.pooled_maps import PooledMaps, find_maps
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.executor import Executor, Joining, Program
from lensmount_adapters.runners.batch import Batch, Share, take
from lensmount_adapters.runners.hot_programs import HotPrograms
from lensmount_adapters.runners.split_backbone import SplitBackbone

USES = 4.0  # images that a first question counts as: more of the same adapter are likely
JOINED_WEIGHT = 0.25  # of one use of a hot slot: a joined program saves that much less


@dataclass(frozen=True, slots=True)
class MapsOf:
    """The key of the program to maps of the adapter with this digest: from activations, or from one image."""

    digest: Hashable
    from_image: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """The last maps [N, feature_dim, rows, columns], float32, of a share's images.

    `pooled` are their pooled activations [N, channels] if the same program gave them.
    """

    maps: Tensor
    pooled: Tensor | None = None


class MapBranch:
    """One cut's branch up to the last map, as a function of its weights."""

    def __init__(self, part: fx.GraphModule, backbone: Backbone, executor: Executor, activations: Tensor, key: str):
        self._functional = functional_branch(part, backbone)
        self._compiled = executor.compile(self._functional.module, (activations,), self._functional.base, key)
        self.nbytes = 0  # of the last program
        self._folded = dict(zip(self._functional.inputs, self._functional.base, strict=True))
        self._digests = {name: resident_digest(tensor) for name, tensor in self._folded.items()}

    def covers(self, adapter: Adapter) -> bool:
        """Whether everything that the adapter changes is an input of this branch."""
        return self._functional.covers(adapter.deltas)

    def weights(self, adapter: Adapter) -> list[Tensor]:
        merged = self._functional.merged(adapter.deltas)
        pairs = zip(self._functional.inputs, self._functional.base, strict=True)
        return [merged.get(name, value) for name, value in pairs]

    def bind(self, adapter: Adapter) -> Program:
        """A program with the adapter's merged weights inside."""
        program = self._compiled.bind(self.weights(adapter))
        self.nbytes = program.nbytes
        return program

    def run(self, adapter: Adapter, activations: Tensor) -> Tensor:
        """The maps, with the adapter's weights passed in."""
        return self._compiled.run((activations,), self.weights(adapter))

    def changed(self, between: Callable[[], None] = nothing) -> list[str]:
        """Names of folded base weights that differ from what they were when they were made."""
        return differing(self._folded, self._digests, between)


class MapPrograms:
    """`maps.prepare(adapter, cut, split)` in any thread, then `maps.run(share, batch)` in the engine's.

    `_branches` is replaced as a whole, under `_making`. `_shapes` belongs to the engine's thread.
    """

    def __init__(self, backbone: Backbone, executor: Executor, segments: Segments, programs: HotPrograms) -> None:
        self._backbone = backbone
        self._executor = executor
        self._segments = segments
        self._programs = programs
        self._found: PooledMaps | str | None = None  # a text says why there are none
        self._branches: Mapping[SplitBackbone, MapBranch | None] = {}
        self._shapes: dict[tuple[SplitBackbone, torch.Size], torch.Size] = {}  # of maps, by the shape of the image
        self._making = threading.Lock()
        programs.derive(lambda key: () if isinstance(key, MapsOf) else (MapsOf(key), MapsOf(key, from_image=True)))

    def prepare(self, adapter: Adapter, cut: int | None, split: SplitBackbone) -> bool:
        """Make the adapter's program. Returns False if the last map lies before the adapter's cut.

        Raises ExplainError if the backbone has no last map, and BackboneError if no program can be made.
        """
        branch = self._branch(cut, split)
        if branch is None or not branch.covers(adapter):
            return False
        key, cache = MapsOf(adapter.digest), self._programs.cache
        if key not in cache:
            cache.record_use(key, USES)
            if cache.should_admit(key, branch.nbytes):
                program = branch.bind(adapter)
                cache.put(key, program, program.nbytes)
        return True

    def run(self, share: Share, batch: Batch) -> Maps:
        """The maps of an adapter that was prepared."""
        branch = self._branches[batch.split]
        assert branch is not None  # `prepare` returned True
        adapter, key, cache = share.adapter, MapsOf(share.adapter.digest), self._programs.cache
        cache.record_use(key, len(share.rows))
        program = cache.get(key)
        if program is None:
            if cache.should_admit(key, branch.nbytes):  # it was evicted, and is asked for again
                self._programs.make(key, partial(branch.bind, adapter))
            return Maps(branch.run(adapter, take(batch.activations(), share.rows)).float())
        if len(batch.images) > 1:
            return Maps(program(take(batch.activations(), share.rows)).float())
        return self._of_one_image(adapter, batch, program)

    def _of_one_image(self, adapter: Adapter, batch: Batch, program: Program) -> Maps:
        """By the joined program, which is made in the background; until then by the trunk and `program`."""
        split, cache, key = batch.split, self._programs.cache, MapsOf(adapter.digest, from_image=True)
        trunk, executor, shape = split.trunk, self._executor, batch.images.shape
        joined = cache.get(key)
        cache.record_use(key, JOINED_WEIGHT)
        if joined is not None and (split, shape) in self._shapes:
            size = self._shapes[split, shape]
            flat, pooled = joined(batch.images).tensor_split([size.numel()], 1)
            return Maps(flat.view(1, *size).float(), pooled if pooled.shape[1] else None)
        maps = program(batch.activations()).float()
        self._shapes[split, shape] = maps.shape[1:]
        if isinstance(executor, Joining) and trunk is not None and cache.should_admit(key, program.nbytes):
            appended = split.pooling_program if split.pools(adapter) else None
            join = partial(executor.join, trunk, program, [shape], many=False, appended=appended, flat=True)
            self._programs.make(key, join)
        return Maps(maps)

    def changed(self, between: Callable[[], None] = nothing) -> list[str]:
        """Names of the base weights of all cuts that differ from what they were when they were made."""
        made = [branch for branch in self._branches.values() if branch is not None]
        return [name for branch in made for name in branch.changed(between)]

    def _branch(self, cut: int | None, split: SplitBackbone) -> MapBranch | None:
        if split in self._branches:
            return self._branches[split]
        with self._making:  # held while a program is compiled, which takes seconds
            if split not in self._branches:
                found, made = self._maps(), None
                if cut is None or cut < found.cut:
                    part = self._segments.part(cut, found.cut)
                    made = MapBranch(part, self._backbone, self._executor, split.example, f"{split.key}-maps")
                self._branches = {**self._branches, split: made}
            return self._branches[split]

    def _maps(self) -> PooledMaps:
        """Looks for them once, which takes a pass through the network, whether there are any or not."""
        if self._found is None:
            try:
                self._found = find_maps(self._segments, self._backbone)
            except ExplainError as error:
                self._found = str(error)
        if isinstance(self._found, str):
            raise ExplainError(self._found)
        return self._found
