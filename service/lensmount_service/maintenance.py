"""Maintenance of a server's state: garbage collection and calibration."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_service.build import open_blobs, open_datasets, open_parts, open_pools
from lensmount_service.gc import Collected, collect
from lensmount_service.jobs.table import JobTable
from lensmount_service.settings import Settings
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
    with contextlib.closing(Database(settings.database_url())) as database:
        registry, jobs = Registry(database), JobTable(database)
        with contextlib.closing(open_datasets(settings, database)) as datasets:
            pools, kept = open_pools(settings, database), settings.retention()
            return collect(settings.state, registry, open_blobs(settings), jobs, datasets, pools, older_than_s, kept)


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
        lines = dict(runner.book.lines) if isinstance(runner, SegmentRunner) else {}
        runner.close()
        return Calibration(runner.describe(), lines)
