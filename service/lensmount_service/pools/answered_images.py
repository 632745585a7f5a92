"""The images of the latest answers, in memory and for a stated time, so that a correction need not send them again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnsweredImage:
    """The bytes of an image as they were sent, and the digests of the adapters that answered."""

    data: bytes
    adapters: frozenset[str]


class AnsweredImages:
    """`answered.keep(request_id, data, {digest})`, later `answered.find(request_id)`. Safe from any thread.

    Images together have at most `max_bytes`, and each is kept for at most `keep_s` seconds; the oldest goes first.
    Nothing is written to disk. With 0 seconds or bytes, nothing is kept.
    """

    def __init__(self, max_bytes: int, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.keep_s = keep_s
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, AnsweredImage]] = OrderedDict()  # by request, the oldest first
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of the images in memory."""
        with self._lock:
            self._drop_old()
            return self._bytes

    def keep(self, request_id: str, data: bytes, adapters: frozenset[str]) -> None:
        """Keep the image of an answer, unless it is larger than all of them together may be."""
        if self.keep_s <= 0 or len(data) > self.max_bytes:
            return
        with self._lock:
            self._drop(request_id)
            self._kept[request_id] = self._clock() + self.keep_s, AnsweredImage(data, adapters)
            self._bytes += len(data)
            self._drop_old()
            while self._bytes > self.max_bytes:
                self._drop(next(iter(self._kept)))

    def find(self, request_id: str) -> AnsweredImage | None:
        """The image of this answer, if it is still kept."""
        with self._lock:
            self._drop_old()
            kept = self._kept.get(request_id)
            return None if kept is None else kept[1]

    def _drop_old(self) -> None:
        while self._kept and next(iter(self._kept.values()))[0] <= self._clock():
            self._drop(next(iter(self._kept)))

    def _drop(self, request_id: str) -> None:
        if (gone := self._kept.pop(request_id, None)) is not None:
            self._bytes -= len(gone[1].data)
