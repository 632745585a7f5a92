"""Bring each epoch's checkpoint to the server from a thread of its own, so that training does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from lensmount_service.errors import LeaseLost
from lensmount_service.worker.heartbeat import JobCancelled, WorkerStopping
from lensmount_service.worker.server_client import ServerAway, ServerRefused

log = structlog.get_logger(__name__)


class CheckpointSender:
    """`with CheckpointSender(path, send) as sender: sender.offer()`; where epochs are fast, only the latest is sent.

    A checkpoint that cannot be sent costs a later attempt an epoch, so its errors are logged and no more.
    """

    def __init__(self, path: Path, send: Callable[[Path], object]) -> None:
        self._path = path
        self._send = send
        self._offered = threading.Event()
        self._ended = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()  # of `_idle`: it says no while there is an offer
        self._thread = threading.Thread(target=self._run, name="lensmount-checkpoint", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is WorkerStopping:
            self._idle.wait(1.0)  # the next worker begins where this one stopped
        self._ended.set()
        self._offered.set()

    def offer(self) -> None:
        """There is a new checkpoint."""
        with self._lock:
            self._idle.clear()
            self._offered.set()

    def _run(self) -> None:
        while True:
            self._offered.wait()
            if self._ended.is_set():
                return
            self._offered.clear()
            try:
                self._send(self._path)
            except (OSError, LeaseLost, JobCancelled, WorkerStopping, ServerRefused, ServerAway) as error:
                log.debug("checkpoint not sent", reason=repr(error))
            with self._lock:
                if not self._offered.is_set():
                    self._idle.set()
