"""The figures that are read whenever somebody asks for the metrics, because nothing counts them meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lensmount_service.engine.engine import Engine
from lensmount_service.errors import ServiceError
from lensmount_service.jobs.records import STATES
from lensmount_service.jobs.table import JobTable
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.metrics import Metrics
from lensmount_service.store.catalog import Catalog
from lensmount_service.store.health import StoreHealth
from lensmount_service.store.memo import StampedCache


@dataclass(frozen=True, slots=True)
class _Latest:
    """The names of all adapters, and those whose latest version has a digest. A page looks at few of them."""

    names: Collection[str]
    by_digest: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, digests: Mapping[str, str]) -> _Latest:
        by_digest: dict[str, list[str]] = {}
        for name, digest in digests.items():
            by_digest.setdefault(digest, []).append(name)
        return cls(digests, by_digest)


@dataclass(eq=False)
class Readings:
    """`Readings(...).page()` is the answer of GET /metrics. It reads the database, so it runs in a thread.

    What cannot be read keeps its last value, and `lensmount_store_readable` is 0 then.
    """

    metrics: Metrics
    engine: Engine
    catalog: Catalog
    jobs: JobTable
    workers: WorkerTable
    store: StoreHealth
    folder: Path
    _latest: StampedCache[str, _Latest] = field(init=False, repr=False)  # read again after a write

    def __post_init__(self) -> None:
        self._latest = StampedCache(self.jobs.database.stamp)

    def page(self) -> bytes:
        self.metrics.queue_length.set(self.engine.waiting)
        self.metrics.quarantined.set(len(self.engine.quarantine))
        self._show_disk()
        state = self.store.look()
        readable = state.fault is None
        if readable:
            try:
                self._show_rows()
            except ServiceError:
                readable = False
        self.metrics.store_readable.set(readable)
        self.metrics.store_degraded.set(state.degraded is not None)
        return self.metrics.render()

    def _show_rows(self) -> None:
        """Raises ServiceError."""
        latest = self._latest.get_or_load("latest", lambda _: _Latest.of(self.catalog.latest_digests()))
        tiers = {
            name: tier
            for digest, tier in self.catalog.tiers_in_memory().items()
            for name in latest.by_digest.get(digest, ())
        }
        self.metrics.show_resident(latest.names, tiers, self.catalog.pinned())
        counts = self.jobs.counts()
        for state in STATES:
            self.metrics.jobs.labels(state).set(counts.get(state, 0))
        self.metrics.workers.set(self.workers.count(self.engine.backbone.fingerprint))

    def _show_disk(self) -> None:
        try:
            usage = shutil.disk_usage(self.folder)
        except OSError:
            return
        self.metrics.disk_free_bytes.set(usage.free)
        self.metrics.disk_size_bytes.set(usage.total)
