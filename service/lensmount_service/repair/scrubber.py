"""Reads every stored file again, slowly and behind predictions, to find damage before somebody needs the file.

A look compares the names of files with the rows: it finds what is missing and what no row needs. A round also reads
every file. It takes at most a number of bytes per second, and waits while images wait for the engine. An adapter with
a damaged or missing file is quarantined until the file is as it was written. Nothing on the disk changes.

The scrubber's thread writes `report`; others read it, one value at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from lensmount_service.background_thread import BackgroundThread
from lensmount_service.errors import ServiceError
from lensmount_service.metrics import Metrics
from lensmount_service.quarantine import Quarantine
from lensmount_service.repair.inventory import Key, Kind, Needed, needed_files
from lensmount_service.repair.shelves import Shelf, state_of
from lensmount_service.store.database import Database

log = structlog.get_logger(__name__)

START_S = 5.0  # after the start of a server, which has other things to read
LOOK_S = 300.0  # from one look to the next
YIELD_S = 1.0  # how long it waits for the engine before it reads one more piece
ORPHAN_AGE_S = 3600.0  # a younger file may belong to a write in progress


@dataclass(frozen=True, slots=True)
class ScrubBudget:
    """How much is read: bytes per second (0: names are compared, and no file is read), and one round per `every_s`."""

    bytes_per_s: int = 4 * 2**20
    every_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What is wrong now. `finished_at` is the end of the last complete round, in seconds since the epoch."""

    damaged: frozenset[Key] = frozenset()
    missing: frozenset[Key] = frozenset()
    orphaned: int = 0
    finished_at: float | None = None

    @property
    def trouble(self) -> str | None:
        """One sentence without names, because everybody may read it; None if all is well."""
        if not self.damaged and not self.missing:
            return None
        return (
            f"found {len(self.damaged)} damaged and {len(self.missing)} missing files. "
            "Fix: run `lensmount store check` on the server, and send these files again or restore them"
        )


class _Ended(Exception):
    """The server stops in the middle of a round."""


@dataclass(eq=False)
class Scrubber(BackgroundThread):
    """`with Scrubber(database, shelves, quarantine, metrics): ...`; `scrubber.report` says what it found.

    `busy` is True while predictions wait.
    """

    database: Database
    shelves: Mapping[Kind, Shelf]
    quarantine: Quarantine
    metrics: Metrics
    budget: ScrubBudget = ScrubBudget()
    busy: Callable[[], bool] = lambda: False
    report: ScrubReport = field(default_factory=ScrubReport, init=False)

    def __post_init__(self) -> None:
        super().__init__("lensmount-scrubber")
        self._looked_at = 0.0
        self._next_round = 0.0

    def _run(self) -> None:
        self._ended.wait(START_S)
        while not self._ended.is_set():
            try:
                self.look()
                if self.budget.bytes_per_s and time.monotonic() >= self._next_round:
                    self.read_all()
            except _Ended:
                return
            except (ServiceError, OSError) as error:
                log.warning("files not checked", reason=str(error))
            self._ended.wait(LOOK_S)

    def wait(self, seconds: float) -> None:
        """Returns earlier if the server stops."""
        self._ended.wait(seconds)

    def look(self) -> None:
        """Compare names with rows, and read the files again that were damaged. Raises ServiceError, OSError."""
        self._looked_at = time.monotonic()
        needed = self._needed()
        there = {kind: shelf.digests() for kind, shelf in self.shelves.items()}
        missing = {key for key in needed if key[1] not in there[key[0]]}
        if missing:
            missing &= self._needed().keys()  # what was deleted meanwhile is not missing
        damaged = {key for key in self.report.damaged if key in needed and self._is_damaged(key)}
        old = time.time() - ORPHAN_AGE_S
        orphaned = sum(
            self.shelves[kind].written_at(digest) < old
            for kind, digests in there.items()
            for digest in digests
            if (kind, digest) not in needed
        )
        self._publish(damaged, missing, orphaned, needed)

    def read_all(self) -> None:
        """Read every file of this machine once, in random order. Raises ServiceError, OSError."""
        started, needed = time.monotonic(), self._needed()
        keys = [key for key in needed if self.shelves[key[0]].is_local]
        random.Random().shuffle(keys)  # a server that restarts often comes to every file in time
        for key in keys:
            if self._is_damaged(key) and key in self._needed():
                found = {*self.report.damaged, key}
                self._publish(found, set(self.report.missing), self.report.orphaned, needed)
            if time.monotonic() - self._looked_at >= LOOK_S:
                self.look()
        self._next_round = started + self.budget.every_s
        report = self.report
        self.report = ScrubReport(report.damaged, report.missing, report.orphaned, time.time())
        self.metrics.scrubbed_at.set_to_current_time()

    def _needed(self) -> dict[Key, Needed]:
        with self.database.read() as connection:
            return needed_files(connection)

    def _is_damaged(self, key: Key) -> bool:
        kind, digest = key
        return state_of(self.shelves[kind], digest, self._pace) == "damaged"

    def _pace(self, nbytes: int) -> None:
        """Wait as long as the budget says, and while predictions wait."""
        self.metrics.scrubbed.inc(nbytes)
        if self.budget.bytes_per_s:
            self.wait(nbytes / self.budget.bytes_per_s)
        until = time.monotonic() + YIELD_S
        while self.busy() and time.monotonic() < until and not self._ended.is_set():
            self.wait(0.005)
        if self._ended.is_set():
            raise _Ended

    def _publish(self, damaged: set[Key], missing: set[Key], orphaned: int, needed: Mapping[Key, Needed]) -> None:
        """Quarantine the adapters that are affected now, end that of others, and show the counts."""
        before = self.report.damaged | self.report.missing
        now = {**dict.fromkeys(missing, "its file is gone"), **dict.fromkeys(damaged, "its file is damaged")}
        for key, why in now.items():
            if key[0] == "adapter":
                self.quarantine.damaged(key[1], why)
            if key not in before:
                log.error("a stored file is not as it was written", file=needed[key].title, reason=why)
        for kind, digest in before - now.keys():
            if kind == "adapter":
                self.quarantine.mended(digest)
        self.report = ScrubReport(frozenset(damaged), frozenset(missing), orphaned, self.report.finished_at)
        self.metrics.quarantined.set(len(self.quarantine))
        for state, count in (("damaged", len(damaged)), ("missing", len(missing)), ("orphaned", orphaned)):
            self.metrics.stored_files.labels(state).set(count)
