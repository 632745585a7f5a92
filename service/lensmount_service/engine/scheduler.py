"""Which images are computed next: a queue for each adapter, the oldest head first, and a bounded turn for everybody.

A turn is `max_batch` images or `max_turn_s` of computing. An adapter whose turn is over goes behind all that wait,
however old its other images are. So an image at the head of its queue waits for the batch under way and for one turn,
which is at most one batch where all images have one shape, of each other adapter that waited when it came.

In a batch of many adapters the images of one go by fours, as old as the first of them: where more wait than a batch
holds, it then holds fewer adapters with more images each, which costs less (docs/decisions.md).
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from itertools import islice, takewhile
from operator import itemgetter
from typing import Generic, TypeVar

from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_service.errors import DeadlineExceeded, QueueFull, Unavailable

TOGETHER = 4  # images of one adapter that go into a batch as one

T = TypeVar("T")  # what an image is answered with


@dataclass(slots=True, eq=False)
class QueuedImage(Generic[T]):
    """One preprocessed image [3, height, width], and the future of its answer."""

    adapter: Adapter
    image: Tensor
    deadline: float = math.inf  # on the scheduler's clock
    group: Hashable = None  # only images of one group share a batch
    future: Future[T] = field(default_factory=Future)
    accepted_at: float = field(default=0.0, init=False)  # set by `submit`


@dataclass(slots=True, eq=False)
class _Lane(Generic[T]):
    """The images of one adapter as they came, and how much of its turn is used."""

    items: OrderedDict[Future[T], QueuedImage[T]] = field(default_factory=OrderedDict)
    taken: int = 0
    seconds: float = 0.0
    gave_way_at: float = -math.inf

    @property
    def head(self) -> QueuedImage[T]:
        return next(iter(self.items.values()))

    @property
    def rank(self) -> tuple[float, float]:
        """The least goes first."""
        return max(self.head.accepted_at, self.gave_way_at), self.gave_way_at

    def give_way(self, now: float) -> None:
        self.taken, self.seconds, self.gave_way_at = 0, 0.0, now


class Scheduler(Generic[T]):
    """`scheduler.submit([QueuedImage(adapter, image)])` in any thread, `scheduler.next_batch()` in the computing one.

    A batch holds images of one shape and one `group`, and with `mix` those of many adapters. It waits up to
    `batch_window_ms` to become full. A future that is cancelled leaves the queue and frees its room at once.
    """

    def __init__(
        self,
        max_batch: int = 16,
        max_queue: int = 256,
        *,
        mix: bool = False,
        max_turn_s: float = 0.5,
        batch_window_ms: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._mix = mix
        self._max_turn_s = max_turn_s
        self._window_s = batch_window_ms / 1000
        self._clock = clock
        self._lanes: dict[str, _Lane[T]] = {}  # by digest; an empty one is removed
        self._waiting = 0
        self._next_deadline = math.inf  # none that waits is earlier
        self._under_way: list[_Lane[T]] = []  # for each image of the last batch, where it came from
        self._taken_at = 0.0
        self._seconds_per_image = 0.05
        self._interrupted = False
        self._closed = False
        self._wake = threading.Condition()

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, items: Sequence[QueuedImage[T]]) -> None:
        """Queue all or none. Raises QueueFull or Unavailable (`draining`)."""
        self._drop_late()
        with self._wake:
            self._refuse_if_closed()
            if self._waiting + len(items) > self._max_queue:
                raise self._full()
            now = self._clock()
            for item in items:
                item.accepted_at = now
                self._lanes.setdefault(item.adapter.digest, _Lane()).items[item.future] = item
                self._next_deadline = min(self._next_deadline, item.deadline)
            self._waiting += len(items)
            self._wake.notify()
        for item in items:  # without a reference to the item: the future would keep the image alive
            item.future.add_done_callback(partial(self._leave, item.adapter.digest))
        self._drop_late()

    def check_room(self) -> None:
        """Raises QueueFull where not even one more image fits."""
        self._drop_late()
        with self._wake:
            if self._waiting >= self._max_queue:
                raise self._full()

    def next_batch(self, block: bool = True) -> list[QueuedImage[T]] | None:
        """The images to compute next, at most `max_batch`, whose futures run; None once all is done after `close`.

        The batch before is taken to be done. Empty after `interrupt`, and with `block=False` where nothing is ready.
        """
        self._end_turns()
        while True:
            with self._wake:
                now = self._clock()
                late = self._take_late(now)
                batch = [] if self._interrupted else self._take(now)
                if not late and not batch:
                    if self._interrupted or not block:
                        self._interrupted = False
                        return []
                    if self._closed and not self._lanes:
                        return None
                    self._wake.wait(self._ready_in(now))
            self._expire(late, now)
            if running := [item for item in batch if item.future.set_running_or_notify_cancel()]:
                return running

    def interrupt(self) -> None:
        """Let `next_batch` return an empty batch, now or when it is called next. Raises Unavailable (`draining`)."""
        with self._wake:
            self._refuse_if_closed()
            self._interrupted = True
            self._wake.notify()

    def close(self) -> None:
        """Refuse new images; `next_batch` goes on until none is left."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Unavailable("the server is shutting down. Fix: try again shortly", retry_after_s=5)

    def _full(self) -> QueueFull:
        seconds = max(1, min(60, round(self._waiting * self._seconds_per_image)))
        return QueueFull(
            f"found {self._waiting} images waiting, expected room for at most {self._max_queue}. "
            f"Fix: try again in {seconds} s",
            retry_after_s=seconds,
        )

    def _take(self, now: float) -> list[QueuedImage[T]]:
        """Remove and return the first batch that is full or has waited for its window."""
        ranked = sorted(self._lanes.values(), key=lambda lane: lane.rank)
        for leader in ranked:
            batch = self._batch_of(leader.head, ranked if self._mix else [leader])
            if self._closed or len(batch) == self._max_batch or leader.head.accepted_at + self._window_s <= now:
                self._under_way = [self._lanes[item.adapter.digest] for item in batch]
                self._taken_at = now
                for lane, item in zip(self._under_way, batch, strict=True):
                    lane.taken += 1
                    self._remove(item.adapter.digest, item.future)
                return batch
        return []

    def _batch_of(self, first: QueuedImage[T], lanes: Sequence[_Lane[T]]) -> list[QueuedImage[T]]:
        """Up to `max_batch` images from the heads of the lanes, which come in the order of their ranks."""

        def fits(item: QueuedImage[T]) -> bool:
            return item.group == first.group and item.image.shape == first.image.shape

        def fitting(lane: _Lane[T]) -> Iterator[tuple[float, QueuedImage[T]]]:
            age = math.inf
            for place, item in enumerate(takewhile(fits, lane.items.values())):
                if lane.taken + place >= self._max_batch:
                    age = math.inf  # its turn is over
                elif place % TOGETHER == 0:
                    age = max(item.accepted_at, lane.gave_way_at)
                yield age, item

        useful = islice((lane for lane in lanes if fits(lane.head)), self._max_batch)  # no batch has more adapters
        merged = merge(*map(fitting, useful), key=itemgetter(0))
        return [item for _, item in islice(merged, self._max_batch)]

    def _end_turns(self) -> None:
        """Count the computing of the last batch to its adapters, and let those whose turn is over go behind."""
        with self._wake:
            if not self._under_way:
                return
            now = self._clock()
            seconds = (now - self._taken_at) / len(self._under_way)
            self._seconds_per_image += 0.1 * (seconds - self._seconds_per_image)
            for lane, count in Counter(self._under_way).items():
                lane.seconds += count * seconds
                if lane.taken >= self._max_batch or lane.seconds >= self._max_turn_s:
                    lane.give_way(now)
            self._under_way = []

    def _ready_in(self, now: float) -> float | None:
        """Seconds until a window or a deadline ends; None where nothing waits."""
        if not self._lanes:
            return None
        window_ends = min(lane.head.accepted_at for lane in self._lanes.values()) + self._window_s
        return max(0.0, min(window_ends, self._next_deadline) - now)

    def _drop_late(self) -> None:
        """Answer what is past its deadline without computing it, and free its room."""
        now = self._clock()
        if now >= self._next_deadline:
            with self._wake:
                late = self._take_late(now)
            self._expire(late, now)

    def _take_late(self, now: float) -> list[QueuedImage[T]]:
        if now < self._next_deadline:
            return []
        waiting = [item for lane in self._lanes.values() for item in lane.items.values()]
        late = [item for item in waiting if item.deadline <= now]
        for item in late:
            self._remove(item.adapter.digest, item.future)
        self._next_deadline = min((item.deadline for item in waiting if item.deadline > now), default=math.inf)
        return late

    @staticmethod
    def _expire(late: Sequence[QueuedImage[T]], now: float) -> None:
        """Outside the lock, because a future calls whoever waits for it."""
        for item in late:
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(
                    DeadlineExceeded(
                        f"found the deadline passed after {now - item.accepted_at:.1f} s in the queue, the image not "
                        "yet computed. Fix: allow a longer timeout, or send fewer images at a time"
                    )
                )

    def _leave(self, digest: str, future: Future[T]) -> None:
        """Called when a future is done, in whatever thread; only one that was cancelled may still be queued."""
        if not future.cancelled():
            return
        with self._wake:
            item = self._remove(digest, future)
        if item is not None:
            future.set_running_or_notify_cancel()

    def _remove(self, digest: str, future: Future[T]) -> QueuedImage[T] | None:
        lane = self._lanes.get(digest)
        item = lane.items.pop(future, None) if lane is not None else None
        if lane is not None and item is not None:
            self._waiting -= 1
            if not lane.items:
                del self._lanes[digest]
        return item
