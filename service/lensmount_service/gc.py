"""Removes files that nothing points at, such as those of a process that died during a write or a job.

What was deleted long enough ago is purged first. The database decides what is needed. Blobs and archives are removed
within a transaction without other writers, so no row is inserted meanwhile. A file younger than the given age may
belong to a write in progress, so it stays.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from lensmount_service.jobs.files import CHECKPOINT, JobFiles
from lensmount_service.jobs.records import ENDED
from lensmount_service.jobs.table import JobTable
from lensmount_service.pools.pools import Pools
from lensmount_service.settings import Retention
from lensmount_service.store.blobs import Blobs, mtime_of
from lensmount_service.store.datasets import DatasetStore
from lensmount_service.store.registry import Registry

log = structlog.get_logger(__name__)

DEFAULT_AGE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Collected:
    """How many files (or job folders) of each kind were removed."""

    blobs: int
    datasets: int
    jobs: int
    worker: int
    pools: int

    @property
    def total(self) -> int:
        return self.blobs + self.datasets + self.jobs + self.worker + self.pools


def collect(
    state: Path,
    registry: Registry,
    blobs: Blobs,
    jobs: JobTable,
    datasets: DatasetStore,
    pools: Pools,
    older_than_s: float = DEFAULT_AGE_S,
    retention: Retention = Retention(),
) -> Collected:
    """Remove what is past its retention, and files without a use that are at least `older_than_s` seconds old.

    Raises Unavailable if the database or the object store is unavailable, OSError if a file cannot be removed.
    """
    if retention.keep_versions is not None:
        registry.retire(retention.keep_versions)
    registry.forget_deleted(retention.undelete_s)
    datasets.forget_deleted(retention.undelete_s)
    before = time.time() - older_than_s
    collected = Collected(
        blobs=blobs.remove_orphans(registry.alone, before),
        datasets=len(datasets.remove_orphans(older_than_s)),
        jobs=_jobs(state / "jobs", jobs, before, retention.keep_job_files_s),
        worker=_worker(state / "worker", jobs, datasets, before),
        pools=pools.remove_orphans(older_than_s),
    )
    if collected.total:
        log.info("collected", **asdict(collected))
    return collected


def _jobs(folder: Path, jobs: JobTable, before: float, keep_s: float | None) -> int:
    """Remove folders without a job or of a job that ended long ago, partial files, and checkpoints without a use."""
    states = jobs.ids()
    gone = [path for path in _inside(folder) if path.name not in states and mtime_of(path) < before]
    if keep_s is not None:
        old = min(before, time.time() - keep_s)
        gone += [path for path in _inside(folder) if states.get(path.name) in ENDED and mtime_of(path) < old]
    unneeded = [
        path
        for path in folder.glob("*/*")
        if path.parent.name in states
        and (path.suffix == ".tmp" or (path.name == CHECKPOINT and states[path.parent.name] == "succeeded"))
        and mtime_of(path) < before
    ]
    count = _remove([*gone, *unneeded])
    files = JobFiles(folder, jobs)
    for job_id in {*(path.name for path in gone), *(path.parent.name for path in unneeded)} & states.keys():
        files.count(job_id)
    return count


def _worker(folder: Path, jobs: JobTable, datasets: DatasetStore, before: float) -> int:
    """Remove folders of attempts whose lease is gone, and archives of deleted datasets."""
    attempts = [
        path for path in _inside(folder / "jobs") if mtime_of(path) < before
    ]  # listed before the leases are read
    tokens = jobs.tokens()
    needed = {digest.removeprefix("sha256:") for digest in datasets.digests()}
    cached = [path for path in _inside(folder / "datasets") if path.stem not in needed and mtime_of(path) < before]
    return _remove([*(path for path in attempts if path.name.rpartition("-")[2] not in tokens), *cached])


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(paths: Iterable[Path]) -> int:
    count = 0
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        count += 1
    return count
