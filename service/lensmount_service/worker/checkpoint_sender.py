"""Send each epoch's checkpoint to the server from a background thread, so that training does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import structlog

from lensmount_service.background_thread import BackgroundThread
from lensmount_service.errors import LeaseLost
from lensmount_service.worker.heartbeat import JobCancelled, WorkerStopping
from lensmount_service.worker.server_client import ServerAway, ServerRefused

log = structlog.get_logger(__name__)


class CheckpointSender(BackgroundThread):
    """`with CheckpointSender(path, send) as sender: sender.offer()`; if epochs are fast, only the latest is sent.

    A checkpoint that cannot be sent costs a later attempt one epoch, so its errors are only logged.
    """

    def __init__(self, path: Path, send: Callable[[Path], object]) -> None:
        super().__init__("lensmount-checkpoint")
        self._path = path
        self._send = send
        self._changed = threading.Condition()  # its lock guards the two flags below
        self._offered = False
        self._sending = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does not wait for the thread, because a send may take as long as the server is away."""
        with self._changed:
            if kind is WorkerStopping:  # the next worker resumes from the checkpoint that is being sent
                self._changed.wait_for(lambda: not self._offered and not self._sending, 1.0)
            self._ended.set()
            self._changed.notify_all()

    def offer(self) -> None:
        """Tell the thread that there is a new checkpoint."""
        with self._changed:
            self._offered = True
            self._changed.notify_all()

    def _run(self) -> None:
        while self._next():
            try:
                self._send(self._path)
            except (OSError, LeaseLost, JobCancelled, WorkerStopping, ServerRefused, ServerAway) as error:
                log.debug("checkpoint not sent", reason=repr(error))

    def _next(self) -> bool:
        """Wait for an offer and take it; False at the end."""
        with self._changed:
            self._sending = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._offered or self._ended.is_set())
            self._offered, self._sending = False, not self._ended.is_set()
            return self._sending
