"""A small file that is given up when a full disk would keep somebody from freeing space."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lensmount_service.errors import StorageFull

RESERVE_BYTES = 2**18  # a delete changes a few pages of 4 KiB, each twice: in the log and in the database

T = TypeVar("T")


class Reserve:
    """`reserve.spend(lambda: registry.delete(...))`, then free the space, then `reserve.fill()`."""

    def __init__(self, path: Path | None) -> None:
        """`path` is on the disk of the database; None if that is elsewhere, and then nothing is kept."""
        self._path = path

    def fill(self) -> None:
        """Write the file if it is not there and the disk has room for it."""
        if self._path is None or self._path.exists():
            return
        with contextlib.suppress(OSError):
            try:
                self._path.touch(mode=0o600)
                self._path.write_bytes(os.urandom(RESERVE_BYTES))  # a file system may store zeros in no space
            except OSError:
                self._path.unlink(missing_ok=True)
                raise

    def spend(self, change: Callable[[], T]) -> T:
        """Make a change that frees space. If the disk is full, give up the file and make it then.

        Raises StorageFull if that is not enough, and what `change` raises.
        """
        try:
            return change()
        except StorageFull:
            if self._path is None or not self._path.exists():
                raise
            self._path.unlink(missing_ok=True)
            return change()
