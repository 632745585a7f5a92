"""Maintenance of a server's state: garbage collection, calibration, backup and restore, check and recovery."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_service.backup.folder import BackupFolder
from lensmount_service.backup.make import BackupMaker, Made
from lensmount_service.backup.restore import Restored, restore_backup
from lensmount_service.build import open_blobs, open_datasets, open_job_files, open_objects, open_parts, open_pools
from lensmount_service.errors import Unavailable
from lensmount_service.gc import Collected, collect
from lensmount_service.jobs.shared_files import SharedJobFiles
from lensmount_service.jobs.table import JobTable
from lensmount_service.repair.check import Checked, check_store
from lensmount_service.repair.inventory import Kind
from lensmount_service.repair.recover import Recovered, recover_store
from lensmount_service.repair.shelves import Shelf, open_shelves
from lensmount_service.repair.start import require_usable
from lensmount_service.settings import Settings
from lensmount_service.state_folder import alone_in, in_use
from lensmount_service.store.database import Database
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the server will compute on this machine, and the cost of each way to compute the branch."""

    engine: dict[str, str]
    lines: dict[str, LinearCost]


def collect_garbage(settings: Settings, older_than_s: float) -> Collected:
    """`lensmount gc`: run `collect` on a state folder, even while a server uses it. Raises what `collect` raises."""
    require_usable(settings.state, settings.database_url(), blobs_elsewhere=settings.blobs is not None)
    with in_use(settings.state), contextlib.closing(Database(settings.database_url())) as database:
        registry, jobs = Registry(database), JobTable(database)
        with contextlib.closing(open_datasets(settings, database)) as datasets:
            pools, kept = open_pools(settings, database), settings.retention()
            collected = collect(
                settings.state, registry, open_blobs(settings), jobs, datasets, pools, older_than_s, kept
            )
            if settings.blobs is None:
                return collected
            before = time.time() - older_than_s
            return replace(
                collected,
                datasets=collected.datasets + datasets.files.remove_orphans(datasets.alone, before),
                jobs=collected.jobs
                + open_job_files(settings, jobs).remove_shared_orphans(before, kept.keep_job_files_s),
                pools=collected.pools + pools.files.remove_orphans(pools.alone, before),
            )


def calibrate(settings: Settings) -> Calibration:
    """`lensmount calibrate`: choose the executor again and re-measure every way to compute, for every adapter."""
    for choice in (settings.state / "programs").glob("executor-*.json"):
        choice.unlink(missing_ok=True)
    with open_parts(settings) as parts:
        runner = parts.engine.runner
        if isinstance(runner, SegmentRunner):
            runner.book.forget()
            for entry in parts.catalog.entries():
                if parts.catalog.status(entry.latest) == "ready":
                    runner.prepare(parts.catalog.resolve(Reference(entry.latest.name)).adapter)
            runner.settle()
            for split in runner.splits:
                split.trunk_cost()
        lines = dict(runner.book.lines) if isinstance(runner, SegmentRunner) else {}
        runner.close()
        return Calibration(runner.describe(), lines)


def make_backup(settings: Settings, out: Path, keep: int | None = None, *, verify: bool = False) -> Made:
    """`lensmount backup`: copy the state into a folder, even while a server uses it.

    Raises ServiceError or OSError; then the backups in the folder are as before.
    """
    with _existing(settings) as (database, shelves):
        objects = open_objects(settings)
        shared = None if objects is None else SharedJobFiles(objects)
        return BackupMaker(settings.state, database, shelves, BackupFolder(out), verify, shared).make(keep)


def restore(settings: Settings, backups: Path, at: str | None = None) -> Restored:
    """`lensmount restore`: put a backup into an empty state folder. Raises ServiceError or OSError."""
    store = None if settings.blobs is None else lambda: open_blobs(settings)
    return restore_backup(BackupFolder(backups), settings.state, at, store)


def check(settings: Settings) -> Checked:
    """`lensmount store check`: read everything and write nothing. Raises ServiceError or OSError."""
    with _existing(settings) as (database, shelves):
        return check_store(database, shelves)


def recover(settings: Settings, *, adopt: bool = False) -> Recovered:
    """`lensmount store recover`: mend what can be mended while no server runs. Raises ServiceError or OSError."""
    with alone_in(_require_folder(settings.state)):
        remote = None if settings.blobs is None else open_blobs(settings)
        shelves = open_shelves(settings.state, remote, open_objects(settings))
        open_store = (lambda database: open_datasets(settings, database)) if adopt else None
        return recover_store(settings.state, settings.database_url(), shelves, open_store)


@contextmanager
def _existing(settings: Settings) -> Iterator[tuple[Database, dict[Kind, Shelf]]]:
    """Database and files of a state folder that is there; nothing is created."""
    _require_folder(settings.state)
    remote = None if settings.blobs is None else open_blobs(settings)
    with contextlib.closing(Database(settings.database_url())) as database:
        yield database, open_shelves(settings.state, remote, open_objects(settings))


def _require_folder(state: Path) -> Path:
    if not state.is_dir():
        raise Unavailable(
            f"found no folder {state}, expected the state folder of a server. Fix: give it with --state",
            code="store_unavailable",
        )
    return state
