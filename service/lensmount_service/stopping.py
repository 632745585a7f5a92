"""When the server was told to stop, and how much of the time for its shutdown is left."""

from __future__ import annotations

import threading
import time


class Stopping(threading.Event):
    """Set once, by the signal. `stopping.left_s(30)` is 30 before that; then it counts down to 0."""

    def __init__(self) -> None:
        super().__init__()
        self._since = 0.0

    def set(self) -> None:
        if not self.is_set():
            self._since = time.monotonic()
        super().set()

    def left_s(self, drain_timeout_s: float) -> float:
        """The seconds that are left of `drain_timeout_s`."""
        return max(0.0, self._since + drain_timeout_s - time.monotonic()) if self.is_set() else drain_timeout_s
