"""The files of jobs in an object store, for servers that share a database.

A key is jobs/JOB/NAME/ATTEMPT.NUMBER.SHA256, and of each name the last key counts. So a worker that has lost its job
cannot replace what its successor wrote, a refused file is removed again without a trace, and no file needs a lock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from lensmount_service.store.remote.objects import Objects

_KEY = re.compile(r"jobs/(?P<job>[A-Za-z0-9_-]+)/(?P<name>[a-z.]+)/(?P<order>\d{6}\.\d{9})\.(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class SharedFile:
    """One file of a job as the object store has it."""

    key: str
    job: str
    name: str
    order: str  # ATTEMPT.NUMBER
    digest: str
    size_bytes: int
    modified_at: float


class SharedJobFiles:
    """`shared.add(job_id, "card.md", attempt=1, path)`, `shared.open(job_id, "card.md")`. All raise Unavailable."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def all(self, job_id: str | None = None, *, quick: bool = False) -> list[SharedFile]:
        """The files of one job or of all jobs, older ones of the same name included, in order."""
        found = []
        for each in self._objects.listed("jobs" if job_id is None else f"jobs/{job_id}", quick=quick):
            if match := _KEY.fullmatch(each.key):
                job, name, order, hexadecimal = match.groups()
                digest = f"sha256:{hexadecimal}"
                found.append(SharedFile(each.key, job, name, order, digest, each.size_bytes, each.modified_at))
        return sorted(found, key=lambda file: (file.job, file.name, file.order))

    def latest(self, job_id: str, *, quick: bool = False) -> dict[str, SharedFile]:
        """The files that count, by name."""
        return {file.name: file for file in self.all(job_id, quick=quick)}

    def add(self, job_id: str, name: str, attempt: int, path: Path) -> SharedFile:
        """Store a file, which counts from now on unless a later attempt has one of this name."""
        with path.open("rb") as file:
            hexadecimal = hashlib.file_digest(file, "sha256").hexdigest()
        before = [file for file in self.all(job_id) if file.name == name]
        number = max((int(file.order[7:]) for file in before if int(file.order[:6]) == attempt), default=0) + 1
        order = f"{attempt:06}.{number:09}"
        key = f"jobs/{job_id}/{name}/{order}.{hexadecimal}"
        self._objects.upload(key, path)
        return SharedFile(key, job_id, name, order, f"sha256:{hexadecimal}", path.stat().st_size, 0.0)

    def drop_before(self, file: SharedFile) -> None:
        """Remove the files that this one replaces."""
        every = self.all(file.job)
        self._objects.delete([old.key for old in every if old.name == file.name and old.order < file.order])

    def open(self, job_id: str, name: str) -> BinaryIO | None:
        """A copy of a file, which the caller closes; None if there is none. It may be replaced at any moment."""
        for _ in range(3):
            file = self.latest(job_id).get(name)
            if file is None:
                return None
            try:
                return self._objects.open(file.key)
            except FileNotFoundError:
                continue
        return None

    def pieces(self, file: SharedFile) -> Iterator[bytes]:
        """The bytes. Raises FileNotFoundError."""
        return self._objects.pieces(file.key)

    def remove(self, files: Iterable[SharedFile], *, quick: bool = False) -> None:
        self._objects.delete([file.key for file in files], quick=quick)
