"""What was found for a key, as long as the place where it was found has not changed since."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class StampedCache(Generic[K, V]):
    """`recall.ask(key, find)` finds it once, `recall.get(key)` knows it then; safe from any thread.

    `stamp` tells the state of the place: equal stamps, equal answers; None where that cannot be told. At most `most`
    answers are kept; an error is not.
    """

    def __init__(self, stamp: Callable[[], object | None], most: int = 1024) -> None:
        self._stamp = stamp
        self._most = most
        self._page: tuple[object | None, dict[K, V]] = (None, {})  # the answers of one stamp; replaced as a whole
        self._writing = threading.Lock()

    def get(self, key: K) -> V | None:
        """The answer of the present state, or None where it has to be found."""
        written, answers = self._page
        known = answers.get(key)
        return None if known is None or self._stamp() != written else known

    def ask(self, key: K, find: Callable[[K], V]) -> V:
        """The answer of the present state. Raises what `find` raises."""
        known = self.get(key)
        if known is not None:
            return known
        stamp = self._stamp()  # before `find`: what changes in between must not be missed
        found = find(key)
        if stamp is not None:
            self._keep(stamp, key, found)
        return found

    def _keep(self, stamp: object, key: K, found: V) -> None:
        with self._writing:
            written, answers = self._page
            if stamp != written or len(answers) >= self._most:
                answers = {}
                self._page = (stamp, answers)
            answers[key] = found
