"""Fused groups, a shortcut: adapters that are requested together share one mixed program with constant factors.

Packing factors and passing them in takes a fifth of a full mixed batch's time, and more of a small one's. A fused
program saves that, at the memory of one hot slot. docs/decisions.md has the figures and the reasons.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.programs.executor import Executor, Program
from lensmount_adapters.runners.batch import Batch, Share
from lensmount_adapters.runners.costs import Costs, Group, LinearCost, cost_alone
from lensmount_adapters.runners.hot_programs import HotPrograms
from lensmount_adapters.runners.mixed_program import Mixable, MixedProgram
from lensmount_adapters.runners.shortcut import Offer
from lensmount_adapters.runners.split_backbone import LEARNING, SplitBackbone

STEADY_BATCHES = 16  # batches in a row without a new adapter before the recent adapters are fused
FIRST_TRIES = 4  # runs that measure a fused program
MEASURE_AGAIN_AFTER = 200  # batches that were cheaper without it: other work may have disturbed the measurement


def fused_groups(backbone: Backbone, executor: Executor, programs: HotPrograms, max_batch: int) -> FusedGroups | None:
    """The shortcut, or None on GPUs, where nothing measures what a fused program costs."""
    return FusedGroups(programs, max_batch) if backbone.device.type == "cpu" else None


@dataclass(frozen=True, eq=False)
class FusedGroup:
    """A set of adapters requested together; their factors can be compiled into one mixed program as constants."""

    members: tuple[Mixable, ...]
    mixed: MixedProgram

    def holds(self, member: Mixable | None) -> bool:
        """Whether the adapter is in the group."""
        return member is not None and member.digest in self._slots

    def is_of(self, members: Sequence[Mixable], mixed: MixedProgram) -> bool:
        """Whether the group has exactly these members in this mixed program."""
        return mixed is self.mixed and len(members) == len(self.members) and all(map(self.holds, members))

    def mask(self, shares: Sequence[Share]) -> Tensor:
        """[N, slots * rank] for the rows of these shares in turn."""
        slots = [(self._slots[share.mixable.digest], len(share.rows)) for share in shares if share.mixable]
        return self.mixed.mixed.mask([slot for slot, count in slots for _ in range(count)])

    def fuse(self) -> Program:
        """Compile the mixed program with the group's factors as constants; its inputs are activations and mask."""
        return self.mixed.fuse(self.members)

    @cached_property
    def _slots(self) -> dict[str, int]:
        return {member.digest: slot for slot, member in enumerate(self.members)}


class FusedGroups:
    """`FusedGroups(programs, max_batch).offer(batch, None)`: the group's program if it exists and is cheaper.

    Each cut has its own group: the adapters of its latest batches, as many as a batch holds.
    """

    def __init__(self, programs: HotPrograms, max_batch: int) -> None:
        self._programs = programs
        self._max_batch = max_batch
        self._branches: Mapping[SplitBackbone, FusedBranch] = {}

    def offer(self, batch: Batch, before: Offer | None) -> Offer | None:
        """The fused program for those shares of the batch whose adapters are in the group."""
        members = [share.mixable for share in batch.shares if share.mixable is not None]
        if len(members) < 2:
            return before
        branch = self.branch(batch.split)
        previous, group = branch.group, branch.observe_batch(members)
        if group is None:
            return before
        if previous is not None and previous is not group:
            self._programs.give_up(previous)
        inside = [share for share in batch.shares if group.holds(share.mixable)]
        cache = self._programs.cache
        cache.record_use(group, sum(len(share.rows) for share in inside))
        program = cache.get(group)
        if program is None and cache.should_admit(group, batch.split.hot_nbytes):
            branch.measure_again()
            self._programs.make(group, group.fuse)
        if program is None or not branch.fused_is_cheaper([batch.group(share) for share in inside]):
            return before
        return Offer(
            group,
            program,
            inside,
            "mixed",
            others=(group.mask(inside),),
            measured=branch.cost is not None,
            record=branch.record_fused_run,
        )

    def forget(self, digest: str) -> None:
        """The adapter is no longer a recent one; its group stays until a batch changes it. Safe from any thread."""
        for branch in self._branches.values():
            branch.forget(digest)

    def branch(self, split: SplitBackbone) -> FusedBranch:
        """What is known of the cut. Only the engine's thread calls this."""
        known = self._branches.get(split)
        if known is None:
            known = FusedBranch(split, self._max_batch)
            self._branches = {**self._branches, split: known}  # a new dict: others may be iterating over the old one
        return known


class FusedBranch:
    """The recent adapters of one cut, the group that they form, and what its program costs.

    `forget` is safe from any thread; everything else belongs to the engine's thread.
    """

    def __init__(self, split: SplitBackbone, max_batch: int) -> None:
        self.group: FusedGroup | None = None
        self.cost: LinearCost | None = None  # None while it is being measured
        self._split = split
        self._max_batch = max_batch
        self._recent: OrderedDict[str, Mixable] = OrderedDict()  # in batches of several adapters, the latest at the end
        self._batches_without_newcomer = 0  # in a row
        self._lock = threading.Lock()  # of the two above
        self._declined_since_measured = 0
        self._fused_timings: list[float] = []  # seconds per image, until the cost is known

    def observe_batch(self, members: Sequence[Mixable]) -> FusedGroup | None:
        """Note the adapters of one batch. Returns the group, or None before there is one.

        A group is formed after `STEADY_BATCHES` batches in a row without a new adapter.
        """
        with self._lock:
            known = all(member.digest in self._recent for member in members)
            self._batches_without_newcomer = self._batches_without_newcomer + 1 if known else 0
            for member in members:
                self._recent[member.digest] = member
                self._recent.move_to_end(member.digest)
            while len(self._recent) > self._max_batch:
                self._recent.popitem(last=False)
            recent = tuple(self._recent.values())
            steady = self._batches_without_newcomer >= STEADY_BATCHES
        mixed = self._split.mixed_program
        if not steady or mixed is None or not all(mixed.has_room(each.layout, each.rank) for each in recent):
            return self.group
        if self.group is None or not self.group.is_of(recent, mixed):
            self.group = FusedGroup(recent, mixed)
        return self.group

    def fused_is_cheaper(self, groups: Sequence[Group]) -> bool:
        """Whether one fused run is cheaper than separate runs. The cost is measured again from time to time."""
        if fused_is_cheaper(self.cost, self._split.costs, groups):
            return True
        self._declined_since_measured += 1
        if self._declined_since_measured == MEASURE_AGAIN_AFTER:
            self.measure_again()
        return False

    def record_fused_run(self, images: int, seconds: float) -> None:
        """Learn from a run. The first few are the measurement, because the engine runs nothing at the same time."""
        if self.cost is not None:
            self.cost = self.cost.towards(images, seconds, LEARNING)
            return
        self._fused_timings.append(seconds / images)
        if len(self._fused_timings) == FIRST_TRIES:
            self.cost = LinearCost(0.0, min(self._fused_timings))

    def measure_again(self) -> None:
        """Forget what the fused program costs: its next runs measure it."""
        self._declined_since_measured = 0
        self._fused_timings = []
        self.cost = None

    def forget(self, digest: str) -> None:
        """Take the adapter out of the recent ones. Safe from any thread."""
        with self._lock:
            self._recent.pop(digest, None)


def fused_is_cheaper(fused: LinearCost | None, costs: Costs, groups: Sequence[Group]) -> bool:
    """Whether several adapters are cheaper in one fused run than one by one; True while the cost is not known."""
    if len(groups) < 2:
        return False
    separate, images = sum(cost_alone(costs, group) for group in groups), sum(group.images for group in groups)
    return fused is None or fused(images) < separate
