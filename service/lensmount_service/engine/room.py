"""How much of the queue each adapter and each caller may fill, so that one that floods it leaves room for the others.

The queue has room for `most` images of anybody. Beyond that it has a reserve for adapters of which few images wait, and
another for callers who wait for few. An adapter or a caller with more than a share waiting enters no reserve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lensmount_service.errors import BodyTooLarge


class Room:
    """`room.missing({"sha256:...": 2}, "reader1")`, then `room.enter(...)`; the scheduler's lock guards it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._share = max(1, most // 16)
        self._reserve = max(1, most // 4)
        self._of_adapter: Counter[str] = Counter()
        self._of_caller: Counter[str] = Counter()
        self.taken = 0

    def require_fit(self, images: int) -> None:
        """Raises BodyTooLarge (`batch_too_large`) for more images than fit into an empty queue."""
        if images > self.most:
            raise BodyTooLarge(
                f"found {images} results in one request, images times adapters, expected at most {self.most}. "
                "Fix: send fewer images, or ask for fewer adapters",
                code="batch_too_large",
            )

    def missing(self, by_adapter: Mapping[str, int], caller: str, coming: int = 0) -> bool:
        """Whether there is no room for a caller's images, counted for each adapter, behind `coming` of anybody."""
        images = sum(by_adapter.values())
        limit = self.most
        if self._of_caller[caller] + images <= self._share:
            limit += 2 * self._reserve  # so that nobody's quiet adapters fill what quiet callers need
        elif all(self._of_adapter[digest] + count <= self._share for digest, count in by_adapter.items()):
            limit += self._reserve
        return self.taken + coming + images > limit

    def enter(self, digest: str, caller: str) -> None:
        self.taken += 1
        self._of_adapter[digest] += 1
        self._of_caller[caller] += 1

    def leave(self, digest: str, caller: str) -> None:
        self.taken -= 1
        for counts, key in ((self._of_adapter, digest), (self._of_caller, caller)):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
