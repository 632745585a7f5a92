"""What the trunk gave for images of archives, as one file each, within a stated size.

Files lie in 64 folders by the first bits of their keys, which are digests, so the folders fill up evenly. Each folder
has a 64th of the size: a put looks at one folder only, and no index is kept in memory or on disk. A folder that is full
gives up the files that were used longest ago, a tenth of its size at a time.

Nothing here may end a job: a file that cannot be read counts as not kept, and one that cannot be written is not kept.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from pathlib import Path

import structlog

from lensmount_adapters.faults import fault
from lensmount_service.archive.entry import KeptOutput, read, written

log = structlog.get_logger(__name__)

FOLDERS = 64
LEFT = 0.9  # of a folder that was full, after it gave up files


class DiskOutputs:
    """`disk.put(key, output)`, `disk.get(key)`; safe from any thread. With 0 bytes, nothing is kept."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._folder = folder
        self._sizes: dict[int, int] = {}  # bytes by folder, of those that were looked at
        self._lock = threading.Lock()
        self._told = False  # that nothing can be written

    def get(self, key: str) -> KeptOutput | None:
        """A file that is damaged is removed."""
        path = self._path(key)
        try:
            fault("archive.read")
            data = path.read_bytes()
            output = read(key, data)
            if output is None:
                self._remove(path)
            else:
                os.utime(path)
        except OSError:
            return None
        return output

    def put(self, key: str, output: KeptOutput) -> None:
        """Keep it. What is not written completely has another name, and no reader sees it."""
        if not self.max_bytes:
            return
        data = written(key, output)
        if len(data) > self._share:
            return
        path = self._path(key)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(key, len(data))
            fault("archive.write")
            temporary.write_bytes(data)
            fault("archive.rename")
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if not self._told:  # once: an archive has many images
                log.warning("trunk outputs cannot be kept", reason=str(error))
                self._told = True

    @property
    def nbytes(self) -> int:
        """Bytes on disk, of the folders that were written to since the start."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def _share(self) -> int:
        return self.max_bytes // FOLDERS

    def _make_room(self, key: str, more: int) -> None:
        """Count `more` bytes for the folder of the key, and remove files first if they do not fit."""
        number, folder = _number(key), self._path(key).parent
        with self._lock:
            if number not in self._sizes or self._sizes[number] + more > self._share:
                files = _files(folder)
                size, least = sum(nbytes for _, nbytes, _ in files), int(LEFT * self._share)
                if size + more > self._share:
                    for _, nbytes, path in sorted(files):
                        if size + more <= least:
                            break
                        Path(path).unlink(missing_ok=True)
                        size -= nbytes
                self._sizes[number] = size
            self._sizes[number] += more

    def _remove(self, path: Path) -> None:
        log.warning("a kept trunk output was damaged, and is computed again", file=path.name)
        path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{_number(key):02x}" / key


def _number(key: str) -> int:
    """Which folder: the first six bits."""
    return int(key[:2], 16) * FOLDERS // 256


def _files(folder: Path) -> list[tuple[float, int, str]]:
    """When each file was used last, its bytes and its path."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another server on this folder removed it
                stat = entry.stat()
                found.append((stat.st_mtime, stat.st_size, entry.path))
    return found
