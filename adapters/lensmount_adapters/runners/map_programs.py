"""Programs from what enters the branch to the last maps, whose mean is the features: for class activation maps.

A program of maps is the adapter's branch without its last step, so it costs what a prediction costs. It is made when a
map is first asked for and kept in the same hot cache. Without room there, the adapter's weights are passed in.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, fx

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.fingerprint import tensor_digest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.graph.functional import functional_branch
from lensmount_adapters.graph.pooled_maps import PooledMaps, find_maps
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.executor import Executor, Program
from lensmount_adapters.runners.hot_programs import HotPrograms
from lensmount_adapters.runners.split_backbone import SplitBackbone

USES = 4.0  # images that a first question counts as: more of the same adapter are likely


@dataclass(frozen=True, slots=True)
class MapsOf:
    """The key of the program from activations to maps of the adapter with this digest."""

    digest: Hashable


class MapBranch:
    """One cut's branch up to the last map, as a function of its weights."""

    def __init__(self, part: fx.GraphModule, backbone: Backbone, executor: Executor, activations: Tensor, key: str):
        self._functional = functional_branch(part, backbone)
        self._compiled = executor.compile(self._functional.module, (activations,), self._functional.base, key)
        self.nbytes = 0  # of the last program
        self._folded = dict(zip(self._functional.inputs, self._functional.base, strict=True))
        self._digests = {name: tensor_digest(tensor) for name, tensor in self._folded.items()}

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

    def changed(self) -> list[str]:
        """Names of folded base weights that differ from what they were when they were made."""
        return [name for name, digest in self._digests.items() if tensor_digest(self._folded[name]) != digest]


class MapPrograms:
    """`maps.prepare(adapter, cut, split)` in any thread, then `maps.run(adapter, split, activations)` in the engine's.

    `_branches` is replaced as a whole, under `_making`.
    """

    def __init__(self, backbone: Backbone, executor: Executor, segments: Segments, programs: HotPrograms) -> None:
        self._backbone = backbone
        self._executor = executor
        self._segments = segments
        self._programs = programs
        self._found: PooledMaps | str | None = None  # a text says why there are none
        self._branches: Mapping[SplitBackbone, MapBranch | None] = {}
        self._making = threading.Lock()
        programs.derive(lambda key: () if isinstance(key, MapsOf) else (MapsOf(key),))

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

    def run(self, adapter: Adapter, split: SplitBackbone, activations: Tensor) -> Tensor:
        """The last maps [N, feature_dim, rows, columns], float32, of an adapter that was prepared."""
        branch = self._branches[split]
        assert branch is not None  # `prepare` returned True
        key, cache = MapsOf(adapter.digest), self._programs.cache
        cache.record_use(key, len(activations))
        program = cache.get(key)
        if program is not None:
            return program(activations).float()
        if cache.should_admit(key, branch.nbytes):  # it was evicted, and is asked for again
            self._programs.make(key, partial(branch.bind, adapter))
        return branch.run(adapter, activations).float()

    def changed(self) -> list[str]:
        """Names of the base weights of all cuts that differ from what they were when they were made."""
        return [name for branch in self._branches.values() if branch is not None for name in branch.changed()]

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
