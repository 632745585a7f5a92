"""Who did what: every write and every refusal of an identity or a scope, as lines of JSON in the state folder.

A record has a time, an actor, a tenant, a route, the target's path and digest, a request id and a status. It has no
body, no query and no secret. A thread writes the records, flushes them to the disk once a second (`fsync`), and begins
a new file at `FILE_BYTES`; a kill can lose the last second. While the disk is full, records wait in memory, which
`trouble` says. Of more than `MAX_WAITING`, and of refusals more than half of that, only the number is kept.

The event loop appends to the deque, and who holds the lock takes from its left. All else belongs to the lock.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from lensmount_service.background_thread import BackgroundThread
from lensmount_service.errors import RequestInvalid, VersionDeleted

log = structlog.get_logger(__name__)

FILE_BYTES = 16 * 2**20
MAX_WAITING = 10_000
MAX_SCAN_BYTES = 16 * 2**20  # read for one page, so that no question takes long
FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class Record:
    """`time` is in seconds since the epoch. `count` is above 1 for equal refusals of the same second."""

    time: float
    actor: str
    tenant: str
    action: str
    target: str | None
    digest: str | None
    request_id: str
    status: int
    count: int = 1

    @property
    def is_refusal(self) -> bool:
        return self.status in (401, 403)


@dataclass(frozen=True, slots=True)
class Page:
    """Records, oldest first. `end` is where the page ends, None if there is no file yet; is there `more` already?

    An end is a file and an offset in it. Files are only appended to and removed, so it stays what it is.
    """

    records: list[dict[str, Any]]
    end: str | None
    more: bool

    @property
    def after(self) -> str | None:
        """Where the next page begins; None at the end."""
        return self.end if self.more else None


class AuditLog(BackgroundThread):
    """`with AuditLog(state / "audit", keep_bytes=2**30) as audit: audit.add(record)`; `add` never waits."""

    def __init__(self, folder: Path, keep_bytes: int) -> None:
        super().__init__("lensmount-audit")
        self._folder = folder
        self._keep_bytes = keep_bytes
        self._waiting: deque[Record] = deque()
        self._lost = 0
        self._flushing = threading.Lock()
        self.trouble: str | None = None  # why records are not on the disk now

    def add(self, record: Record) -> None:
        if len(self._waiting) >= MAX_WAITING or (record.is_refusal and len(self._waiting) >= MAX_WAITING // 2):
            self._lost += 1
            return
        self._waiting.append(record)

    def _run(self) -> None:
        while not self._ended.wait(FLUSH_S):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write what waits. A failure keeps it waiting and becomes `trouble`; the next call tries again."""
        with self._flushing:
            self._flush()

    def _flush(self) -> None:
        records = [self._waiting[index] for index in range(len(self._waiting))]
        if not records and not self._lost:
            return
        lines = [json.dumps(asdict(record)) for record in _collapsed(records)]
        lost = self._lost
        if lost:
            lines.append(json.dumps(asdict(Record(time.time(), "-", "-", "lost", None, None, "-", 0, lost))))
        try:
            self._append("".join(line + "\n" for line in lines).encode())
        except OSError as error:
            if self.trouble is None:
                log.error("audit records wait because they cannot be written", reason=error.strerror)
            self.trouble = f"{len(records)} audit records wait: {error.strerror}"
            return
        for _ in records:
            self._waiting.popleft()
        self._lost -= lost
        self.trouble = None

    def _append(self, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = self._files()
        path = files[-1] if files else None
        if path is None or path.stat().st_size >= FILE_BYTES:
            path = self._folder / f"audit-{time.time_ns() // 1_000_000:016d}.jsonl"
            self._remove_oldest(files)
        target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(target).st_size
            try:
                written = os.write(target, data)
                if written < len(data):
                    raise OSError(28, "No space left on device")
                os.fsync(target)
            except OSError:
                os.ftruncate(target, before)  # no half line, and nothing twice when the records are written again
                raise
        finally:
            os.close(target)

    def _remove_oldest(self, files: list[Path]) -> None:
        sizes = [path.stat().st_size for path in files]
        for path, _ in zip(files, sizes, strict=True):
            if sum(sizes) + FILE_BYTES <= self._keep_bytes:
                return
            path.unlink(missing_ok=True)
            sizes = sizes[1:]

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("audit-*.jsonl") if path.stem[6:].isdecimal())

    def page(self, since: float, after: str | None, limit: int, wanted: dict[str, str]) -> Page:
        """At most `limit` records from `since` on whose fields equal `wanted`, behind the end of an earlier page.

        Reads the disk. Raises VersionDeleted (`audit_gone`) if the records there are no longer kept, and RequestInvalid
        for an end that no page had.
        """
        files, start = self._durable(), 0
        if after is not None:
            number, start = map(int, after.split(":"))
            files = [each for each in files if _number(each[0]) >= number]
            if not files or _number(files[0][0]) != number:
                raise _gone()
            _require_end(*files[0], start)
        else:  # a file ends where the next one begins
            while len(files) > 1 and _number(files[1][0]) / 1000 < since:
                files = files[1:]
        records: list[dict[str, Any]] = []
        left, end = MAX_SCAN_BYTES, after
        for path, size in files:
            for stop, record in _records(path, start, size):
                left -= stop - start
                start, end = stop, f"{_number(path)}:{stop}"
                wants = record is not None and record["time"] >= since
                if record is not None and wants and all(record[key] == value for key, value in wanted.items()):
                    records.append(record)
                if len(records) >= limit or left <= 0:
                    return Page(records, end, more=True)
            start = 0
        return Page(records, end, more=False)

    def _durable(self) -> list[tuple[Path, int]]:
        """The files and what of each is on the disk for good: not what is being written, which may be taken back."""
        with self._flushing:
            return [(path, path.stat().st_size) for path in self._files()]


def _require_end(path: Path, size: int, end: int) -> None:
    """Raises RequestInvalid unless a line ends there, or VersionDeleted (`audit_gone`)."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, end - 1))
            if end <= size and (end == 0 or file.read(1) == b"\n"):
                return
    except FileNotFoundError as error:  # it was removed meanwhile
        raise _gone() from error
    raise RequestInvalid("after: found an end that no page had, expected `next` or `end` of one. Fix: leave after out")


def _gone() -> VersionDeleted:
    return VersionDeleted(
        "after: found the end of a page whose file is no longer kept, so records behind it may be missing. "
        "Fix: leave after out, and say in since from when on",
        code="audit_gone",
    )


def _records(path: Path, start: int, size: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Each line up to `size` with the offset of its end; None for a damaged one, as after a power loss."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # the oldest was removed meanwhile
        return
    with file:
        file.seek(start)
        for line in file:
            start += len(line)
            if start > size or not line.endswith(b"\n"):  # is being written
                return
            yield start, _record(line)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.keys() == Record.__dataclass_fields__.keys() else None


def _collapsed(records: Iterable[Record]) -> Iterator[Record]:
    """Equal refusals as one record with their number, so that a flood of them takes little room."""
    refusals: dict[tuple[str, str, str, int], tuple[Record, int]] = {}
    for record in records:
        if not record.is_refusal:
            yield record
            continue
        key = (record.actor, record.tenant, record.action, record.status)
        first, count = refusals.get(key, (record, 0))
        refusals[key] = (first, count + 1)
    for first, count in refusals.values():
        yield Record(**{**asdict(first), "count": count})


def _number(path: Path) -> int:
    return int(path.stem[6:])
