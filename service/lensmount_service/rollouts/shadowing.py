"""Which answers are also computed by the shadow of a rollout, and what the evidence is told of both."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from torch import Tensor

from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.runners.kept_trunk import KeepsTrunk
from lensmount_adapters.runners.runner import Runner
from lensmount_adapters.trust.judge import Judgement
from lensmount_service.engine.shadows import Shadow, ShadowResult
from lensmount_service.rollout_spec import Rollout
from lensmount_service.rollouts.evidence import Evidence, Scored
from lensmount_service.rollouts.ready import Ready
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference

MOST = 16  # shadows in memory; a further one takes the place of the one that is there longest

Judge = Callable[[Snapshot, Sequence[float], Tensor | None], Judgement | None]  # of scores and pooled activations


class Adapters(Protocol):
    """Adapters by the names that the caller sees."""

    def resolve(self, reference: Reference) -> Snapshot: ...


@dataclass(frozen=True, slots=True)
class Shadowing:
    """`shadowing.of(context.catalog, snapshots)`: for each answer the shadow that is computed after it, or None.

    Never waits: a shadow that is not in memory is prepared in the background, and the evidence says so meanwhile.
    """

    runner: Runner
    ready: Ready
    evidence: Evidence
    judge: Judge
    _known: OrderedDict[str, Snapshot] = field(default_factory=OrderedDict, init=False)  # by rollout, under `_lock`
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def of(self, adapters: Adapters, snapshots: Sequence[Snapshot]) -> list[Shadow | None]:
        return [self._of(adapters, snapshot) if snapshot.shadowed else None for snapshot in snapshots]

    def _of(self, adapters: Adapters, stable: Snapshot) -> Shadow | None:
        rollout = stable.version.rollout
        if rollout is None or rollout.shadow is None:
            return None
        other = self._found(adapters, rollout, Reference(stable.version.name, rollout.shadow.version))
        why = "not_ready" if other is None else why_not(self.runner, stable, other)
        if other is None or why is not None:
            nothing = Scored(stable.version.manifest.labels, ())
            self.evidence.shadowed(rollout, nothing, None, why or "not_ready", 0.0)
            return None
        of_alias = replace(other, version=replace(other.version, thresholds=stable.version.thresholds))
        return Shadow(other.adapter, partial(self._told, rollout, stable, of_alias))

    def _found(self, adapters: Adapters, rollout: Rollout, reference: Reference) -> Snapshot | None:
        """The shadow if it is in memory with its program; otherwise that is begun."""
        key, number = f"{rollout.id} shadow", reference.version or 0
        with self._lock:
            known = self._known.get(rollout.id)
        if known is not None and self.runner.ready(known.adapter):
            return known
        if self.ready.has(key, number):  # it was, and gave its place to another
            self.ready.fail(key, number, "not_ready")
        self.ready.begin(key, number, partial(self._load, adapters, rollout.id, reference))
        return None

    def _load(self, adapters: Adapters, rollout: str, reference: Reference) -> Snapshot:
        """Kept by the rollout, whose id stands for its versions: another change of the store does not concern it."""
        found = adapters.resolve(reference)
        with self._lock:
            self._known[rollout] = found
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return found

    def _told(self, rollout: Rollout, stable: Snapshot, shadow: Snapshot, result: ShadowResult) -> None:
        answered = self._scored(stable, result.stable, result.stable_pooled)
        compared = None if result.scores is None else self._scored(shadow, result.scores, result.pooled)
        self.evidence.shadowed(rollout, answered, compared, result.why or "", result.seconds)

    def _scored(self, snapshot: Snapshot, scores: Tensor, pooled: Tensor | None) -> Scored:
        values: list[float] = scores.tolist()
        return Scored(snapshot.version.manifest.labels, values, self.judge(snapshot, values, pooled))


def why_not(runner: Runner, stable: Snapshot, shadow: Snapshot) -> str | None:
    """Why a version cannot be computed after the answers of another, as the evidence counts it; None if it can."""
    if not isinstance(runner, KeepsTrunk):
        return "merged_in_place"
    first, second = stable.adapter.manifest, shadow.adapter.manifest
    if isinstance(first.head, SegmentationHead) or isinstance(second.head, SegmentationHead):
        return "segmentation"
    return "preprocessing_mismatch" if first.preprocessing != second.preprocessing else None
