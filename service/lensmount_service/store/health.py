"""Whether the store can be read and written: looked at when somebody asks, at most once a second, by one thread."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lensmount_service.errors import ServiceError
from lensmount_service.store.database import Database
from lensmount_service.store.reserve import RESERVE_BYTES

SECONDS = 1.0  # how long an answer is used again
CHECK_S = 5.0  # how often the pages of an SQLite file are checked


@dataclass(frozen=True, slots=True)
class StoreState:
    """`fault` says why the store cannot be read; `degraded` why it can only be read. Both are None if all is well."""

    fault: str | None = None
    degraded: str | None = None


class StoreHealth:
    """`health.look()`; safe from any thread. While one thread looks, others get the answer before."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        read: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`read` reads what the server needs; `trouble` says what is wrong with the files. Raises nothing."""
        self._database = database
        self._folder = folder
        self._read = read
        self._trouble = trouble
        self._clock = clock
        self._looking = threading.Lock()
        self._last = StoreState()
        self._looked_at = -SECONDS
        self._checked_at = -CHECK_S

    def look(self) -> StoreState:
        """The state of the store, at most a second old."""
        if self._clock() - self._looked_at >= SECONDS and self._looking.acquire(blocking=False):
            try:
                self._last = self._look()
                self._looked_at = self._clock()
            finally:
                self._looking.release()
        return self._last

    def _look(self) -> StoreState:
        try:
            if self._clock() - self._checked_at >= CHECK_S:
                self._database.check()
                self._checked_at = self._clock()
            self._read()
        except ServiceError as error:
            return StoreState(fault=str(error))
        if self._database.write_fault is not None:
            return StoreState(degraded=self._database.write_fault)
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            return StoreState(degraded=f"the state folder cannot be read ({error.strerror})")
        if free < RESERVE_BYTES:
            return StoreState(degraded="the disk of the state folder is full. Fix: free space")
        return StoreState(degraded=self._trouble())
