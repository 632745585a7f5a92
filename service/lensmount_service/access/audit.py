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
    """Records, oldest first, and where the next page begins; None at the end."""

    records: list[dict[str, Any]]
    after: str | None


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
        return sorted(self._folder.glob("audit-*.jsonl"))

    def page(self, since: float, after: str | None, limit: int, wanted: dict[str, str]) -> Page:
        """At most `limit` records from `since` on whose fields equal `wanted`. Reads the disk."""
        files = [path for path in self._files() if after is None or _number(path) >= int(after.partition(":")[0])]
        if after is None:  # a file ends where the next one begins
            while len(files) > 1 and _number(files[1]) / 1000 < since:
                files = files[1:]
        records: list[dict[str, Any]] = []
        left = MAX_SCAN_BYTES
        for path in files:
            start = int(after.partition(":")[2]) if after and _number(path) == int(after.partition(":")[0]) else 0
            for end, record in _records(path, start):
                if record["time"] >= since and all(record[key] == value for key, value in wanted.items()):
                    records.append(record)
                if len(records) >= limit or left - (end - start) <= 0:
                    return Page(records, f"{_number(path)}:{end}")
            left -= max(0, path.stat().st_size - start)
        return Page(records, None)


def _records(path: Path, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each record with the offset of its end. Damaged lines, as after a power loss, are passed over."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # the oldest was removed meanwhile
        return
    with file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):  # is being written
                return
            start += len(line)
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.keys() == Record.__dataclass_fields__.keys():
                yield start, record


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
    return int(path.stem.partition("-")[2])
