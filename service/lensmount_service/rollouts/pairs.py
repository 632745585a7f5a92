"""Labels that people gave, turned into evidence: in the background, both versions compute the image of each label.

Feedback neither waits for this nor fails because of it. While images wait for the engine, a label waits too; if too
many wait, further ones are dropped and counted. The images share no batch with those of requests, so no answer changes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.inputs.prepare import InputLimits, prepare
from lensmount_service.background_thread import BackgroundThread
from lensmount_service.engine.engine import Engine
from lensmount_service.errors import ServiceError
from lensmount_service.rollout_spec import Rollout, Side
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.rows import Graded, Pair, Rows
from lensmount_service.store.catalog import Catalog
from lensmount_service.store.references import Reference

log = structlog.get_logger(__name__)

MOST_WAITING = 256  # labels
MOST_BYTES = 64 * 2**20  # of their images together
BUSY_S = 30.0  # how long a label gives way to images that wait for the engine
TIMEOUT_S = 60.0  # for the computation of one image


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image with its right label, and which side of the rollout had answered.

    `key` is that of the adapter, `digest` that of the image as it is kept.
    """

    rollout: Rollout
    key: str
    side: Side
    digest: str
    data: bytes
    label: str


class Pairs(BackgroundThread):
    """`pairs.offer(LabelledImage(...))` returns at once. One lock guards what waits."""

    def __init__(self, engine: Engine, catalog: Catalog, rows: Rows, evidence: Evidence, limits: InputLimits) -> None:
        super().__init__("lensmount-rollout-labels")
        self._engine = engine
        self._catalog = catalog
        self._rows = rows
        self._evidence = evidence
        self._limits = limits
        self._waiting: deque[LabelledImage] = deque()
        self._bytes = 0
        self._wake = threading.Condition()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def offer(self, image: LabelledImage) -> bool:
        """False if there is no room for another one."""
        with self._wake:
            taken = len(self._waiting) < MOST_WAITING and self._bytes + len(image.data) <= MOST_BYTES
            if taken:
                self._waiting.append(image)
                self._bytes += len(image.data)
                self._wake.notify()
        if not taken:
            self._evidence.dropped(image.rollout)
        return taken

    def compute_next(self) -> bool:
        """Compute one image, if one waits."""
        with self._wake:
            if not self._waiting:
                return False
            image = self._waiting.popleft()
            self._bytes -= len(image.data)
        try:
            pair = self._pair(image)
            if pair is not None:
                self._rows.add_pair(image.rollout.id, pair)
        except (LensmountError, ServiceError, OSError) as error:
            self._evidence.dropped(image.rollout)
            log.warning("a label is not compared", adapter=image.key, rollout=image.rollout.id, reason=str(error))
        return True

    def __exit__(self, *raised: Any) -> None:
        self._ended.set()
        with self._wake:
            self._wake.notify()
        super().__exit__(*raised)

    def _run(self) -> None:
        while not self._ended.is_set():
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._ended.is_set())
            if self._waiting:
                self._give_way()
                try:
                    self.compute_next()
                except Exception:  # the loop's boundary: one image must not end the comparison of all later ones
                    log.exception("a label is not compared")

    def _give_way(self) -> None:
        until = time.monotonic() + BUSY_S
        while self._engine.waiting and time.monotonic() < until and not self._ended.wait(0.005):
            pass

    def _pair(self, image: LabelledImage) -> Pair | None:
        """None if the versions cannot be compared by labels."""
        rollout = image.rollout
        versions = (rollout.stable, rollout.candidate)
        found = [self._catalog.resolve(Reference(image.key, number)) for number in versions]
        adapters = [snapshot.adapter for snapshot in found]
        labels = [adapter.manifest.labels for adapter in adapters]
        if not can_compare([adapter.manifest for adapter in adapters]) or image.label not in labels[0]:
            return None
        graded = [
            grade(scores, adapter.manifest.labels.index(image.label))
            for adapter, scores in zip(adapters, self._scores(image.data, adapters), strict=True)
        ]
        share = 0.0 if rollout.canary is None else rollout.canary.percent / 100
        return Pair(image.digest, image.side, share, len(labels[0]), *graded)

    def _scores(self, data: bytes, adapters: Sequence[Adapter]) -> list[list[float]]:
        """Both in one batch, apart from the images of requests; test images of an upload may share it."""
        prepared = prepare(data, {adapter.manifest.preprocessing for adapter in adapters}, self._limits)
        for adapter in adapters:
            if not self._engine.runner.ready(adapter):
                self._engine.runner.prepare(adapter)
        work = [(adapter, prepared.inputs[adapter.manifest.preprocessing]) for adapter in adapters]
        deadline = time.perf_counter() + TIMEOUT_S
        futures = self._engine.submit_many(work, deadline, "rollouts", trial=True)
        return [future.result(TIMEOUT_S).scores.tolist() for future in futures]


def can_compare(manifests: Sequence[Manifest]) -> bool:
    """Whether versions give the same labels, in any order."""
    if any(isinstance(manifest.head, SegmentationHead) for manifest in manifests):
        return False
    return len({frozenset(manifest.labels) for manifest in manifests}) == 1


def grade(scores: Sequence[float], right: int) -> Graded:
    """The answer `scores` to an image whose label has this place."""
    top = max(range(len(scores)), key=scores.__getitem__)
    squared = sum((score - (place == right)) ** 2 for place, score in enumerate(scores))
    return Graded(top == right, scores[right], scores[top], min(1.0, squared / 2))
