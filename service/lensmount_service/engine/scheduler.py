"""Chooses the images to compute next: one queue per adapter and caller, the oldest head first, and a bounded turn for
each.

A turn is `max_batch` images or `max_turn_s` of computing. A queue whose turn is over goes behind all that wait, however
old its other images are. So an image at the head of its queue waits for the current batch and for one turn of each
other queue that was waiting when it arrived. If all images have one shape, a turn is at most one batch.

In a batch of many adapters, the images of one adapter are taken in groups of four, each group as old as its first
image. If more images wait than fit in a batch, the batch then has fewer adapters with more images each, which costs
less (docs/decisions.md).

Images that are `low` wait until no others do. They have a room of their own and share no batch with others.
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
from lensmount_service.engine.quiet import QuietLanes
from lensmount_service.engine.room import Room
from lensmount_service.engine.shadows import Shadow
from lensmount_service.errors import DeadlineExceeded, QueueFull, Unavailable

TOGETHER = 4  # images of one adapter that enter a batch as a group

T = TypeVar("T")  # the result for one image
_Key = tuple[str, str, bool]  # of a lane: digest, caller and whether its images are low


@dataclass(slots=True, eq=False)
class QueuedImage(Generic[T]):
    """One preprocessed image [3, height, width], and the future of its result."""

    adapter: Adapter
    image: Tensor
    deadline: float = math.inf  # on the scheduler's clock
    group: Hashable = None  # only images of the same group share a batch
    caller: str = ""  # who sent it
    tenant: str = ""  # whose requests the failures of the adapter count for
    trial: bool = False  # of an adapter that is not published yet: its failures are the uploader's
    shadow: Shadow | None = None  # computed later from what the pass leaves
    traced: bool = False  # its answer says how long each stage took
    low: bool = False  # goes behind all that is not
    keeps: bool = False  # this and the next two: see Item in lensmount_adapters/runners/runner.py
    from_trunk: bool = False
    apart: bool = False
    name: str = ""  # of the adapter: the traffic of its versions counts together, as in a rollout
    future: Future[T] = field(default_factory=Future)
    accepted_at: float = field(default=0.0, init=False)  # set by `submit`


@dataclass(slots=True, eq=False)
class _Lane(Generic[T]):
    """The images of one adapter and caller in order of arrival, and how much of its turn is used."""

    digest: str
    low: bool = False
    whose: tuple[str, str] = ("", "")  # the adapter's name, or digest without one, and the caller
    items: OrderedDict[Future[T], QueuedImage[T]] = field(default_factory=OrderedDict)
    taken: int = 0
    seconds: float = 0.0
    gave_way_at: float = -math.inf

    @property
    def head(self) -> QueuedImage[T]:
        return next(iter(self.items.values()))

    @property
    def rank(self) -> tuple[float, float]:
        """The lane with the lowest rank goes first."""
        return max(self.head.accepted_at, self.gave_way_at), self.gave_way_at

    def give_way(self, now: float) -> None:
        self.taken, self.seconds, self.gave_way_at = 0, 0.0, now


class Scheduler(Generic[T]):
    """Call `scheduler.submit([QueuedImage(adapter, image)])` in any thread, `next_batch()` in the computing thread.

    A batch has images of one shape and one `group`; with `mix`, they may belong to many adapters. A batch waits up to
    `batch_window_ms` to fill up. A cancelled future leaves the queue and frees its space at once.
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
        self._room = Room(max_queue)
        self._low_room = Room(max_queue)
        self._quiet = QuietLanes()
        self._mix = mix
        self._max_turn_s = max_turn_s
        self._window_s = batch_window_ms / 1000
        self._clock = clock
        self._lanes: dict[_Key, _Lane[T]] = {}  # empty lanes are removed
        self._next_deadline = math.inf  # no waiting image has an earlier one
        self._batch_lanes: list[_Lane[T]] = []  # the lane of each image of the last batch
        self._taken_at = 0.0
        self._turn = max_batch  # images of the last batch's turns
        self._seconds_per_image = 0.05
        self._interrupted = False
        self._closed = False
        self._wake = threading.Condition()

    @property
    def waiting(self) -> int:
        """Images that are not low."""
        return self._room.taken

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, items: Sequence[QueuedImage[T]]) -> None:
        """Queue all images or none. Raises QueueFull, BodyTooLarge (`batch_too_large`) or Unavailable (`draining`)."""
        self.require_fit(len(items))
        self._drop_late()
        with self._wake:
            self._refuse_if_closed()
            low = bool(items) and items[0].low
            self._require_room(
                Counter(item.adapter.digest for item in items), items[0].caller if items else "", low=low
            )
            now = self._clock()
            for item in items:
                item.accepted_at = now
                lane = self._lanes.setdefault(_key(item), _Lane(item.adapter.digest, item.low, _whose(item)))
                lane.items[item.future] = item
                self._room_of(item.low).enter(*_key(item)[:2])
                self._next_deadline = min(self._next_deadline, item.deadline)
            for whose in {_whose(item) for item in items if not item.low}:
                waiting = sum(len(lane.items) for lane in self._lanes.values() if lane.whose == whose and not lane.low)
                self._quiet.saw(whose, waiting, now)
            self._wake.notify()
        for item in items:  # without a reference to the item, because the future would keep the image alive
            item.future.add_done_callback(partial(self._leave, _key(item)))
        self._drop_late()

    def require_fit(self, images: int) -> None:
        """Raises BodyTooLarge (`batch_too_large`) for more images of one request than fit into an empty queue."""
        self._room.require_fit(images)

    def check_room(self, digests: Sequence[str], caller: str = "", coming: int = 0, *, low: bool = False) -> None:
        """Raises QueueFull if not even one image of each of these adapters fits, behind `coming` that are decoded."""
        self._drop_late()
        with self._wake:
            self._require_room(Counter(digests), caller, coming, low=low)

    def next_batch(self, block: bool = True) -> list[QueuedImage[T]] | None:
        """The images to compute next, at most `max_batch`. Their futures are running.

        The call means that the previous batch is done. The batch is empty after `interrupt`, and with `block=False` if
        nothing is ready. Returns None after `close` once no image is left.
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
        """Make `next_batch` return an empty batch, now or at its next call. Raises Unavailable (`draining`)."""
        with self._wake:
            self._refuse_if_closed()
            self._interrupted = True
            self._wake.notify()

    def close(self) -> None:
        """Refuse new images. `next_batch` continues until no image is left."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Unavailable("the server is shutting down. Fix: try again shortly", retry_after_s=5)

    def _room_of(self, low: bool) -> Room:
        return self._low_room if low else self._room

    def _require_room(self, by_adapter: Counter[str], caller: str, coming: int = 0, *, low: bool = False) -> None:
        room = self._room_of(low)
        if not room.missing(by_adapter, caller, coming):
            return
        waiting = room.taken + coming
        seconds = max(1, min(60, round(waiting * self._seconds_per_image)))
        raise QueueFull(
            f"found {waiting} images waiting, expected room for at most {self._room.most}. "
            f"Fix: try again in {seconds} s",
            retry_after_s=seconds,
        )

    def _take(self, now: float) -> list[QueuedImage[T]]:
        """Remove and return the first batch that is full or whose window has ended."""
        ranked = sorted((lane for lane in self._lanes.values() if not lane.low), key=lambda lane: lane.rank)
        ranked = ranked or sorted(self._lanes.values(), key=lambda lane: lane.rank)
        longest = max((len(lane.items) for lane in self._lanes.values()), default=0)
        most = min(self._max_batch, self._quiet.most_images(longest, self._seconds_per_image, now))
        for leader in ranked:
            lanes = [lane for lane in ranked if self._mix or lane.digest == leader.digest]
            batch = self._batch_of(leader.head, lanes, most)
            if self._closed or len(batch) == most or leader.head.accepted_at + self._window_s <= now:
                self._batch_lanes = [self._lanes[_key(item)] for item in batch]
                self._taken_at, self._turn = now, most
                for lane, item in zip(self._batch_lanes, batch, strict=True):
                    lane.taken += 1
                    self._remove(_key(item), item.future)
                return batch
        return []

    def _batch_of(self, first: QueuedImage[T], lanes: Sequence[_Lane[T]], most: int) -> list[QueuedImage[T]]:
        """Up to `most` images from the heads of the lanes, which are sorted by rank."""

        def fits(item: QueuedImage[T]) -> bool:
            return item.group == first.group and item.image.shape == first.image.shape

        def fitting(lane: _Lane[T]) -> Iterator[tuple[float, QueuedImage[T]]]:
            age = math.inf
            for position, item in enumerate(takewhile(fits, lane.items.values())):
                if lane.taken + position >= most:
                    age = math.inf  # its turn is over
                elif position % TOGETHER == 0:
                    age = max(item.accepted_at, lane.gave_way_at)
                yield age, item

        useful = islice(
            (lane for lane in lanes if fits(lane.head)), self._max_batch
        )  # a batch cannot have more adapters
        merged = merge(*map(fitting, useful), key=itemgetter(0))
        return [item for _, item in islice(merged, most)]

    def _end_turns(self) -> None:
        """Charge the time of the last batch to its adapters, and move those whose turn is over to the back."""
        with self._wake:
            if not self._batch_lanes:
                return
            now = self._clock()
            seconds = (now - self._taken_at) / len(self._batch_lanes)
            self._seconds_per_image += 0.1 * (seconds - self._seconds_per_image)
            for lane, count in Counter(self._batch_lanes).items():
                lane.seconds += count * seconds
                if lane.taken >= self._turn or lane.seconds >= self._max_turn_s:
                    lane.give_way(now)
            self._batch_lanes = []

    def _ready_in(self, now: float) -> float | None:
        """Seconds until a window or a deadline ends; None if no image waits."""
        if not self._lanes:
            return None
        window_ends = min(lane.head.accepted_at for lane in self._lanes.values()) + self._window_s
        return max(0.0, min(window_ends, self._next_deadline) - now)

    def _drop_late(self) -> None:
        """Fail images that are past their deadline without computing them, and free their space."""
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
            self._remove(_key(item), item.future)
        self._next_deadline = min((item.deadline for item in waiting if item.deadline > now), default=math.inf)
        return late

    @staticmethod
    def _expire(late: Sequence[QueuedImage[T]], now: float) -> None:
        """Called without the lock, because a future runs the callbacks of its waiters."""
        for item in late:
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(
                    DeadlineExceeded(
                        f"the deadline passed after {now - item.accepted_at:.1f} s in the queue, before the image was "
                        "computed. Fix: allow a longer timeout, or send fewer images at a time"
                    )
                )

    def _leave(self, key: _Key, future: Future[T]) -> None:
        """Called in any thread when a future is done. Only a cancelled image may still be queued."""
        if not future.cancelled():
            return
        with self._wake:
            item = self._remove(key, future)
        if item is not None:
            future.set_running_or_notify_cancel()

    def _remove(self, key: _Key, future: Future[T]) -> QueuedImage[T] | None:
        lane = self._lanes.get(key)
        item = lane.items.pop(future, None) if lane is not None else None
        if lane is not None and item is not None:
            self._room_of(lane.low).leave(*key[:2])
            if not lane.items:
                del self._lanes[key]
        return item


def _whose(item: QueuedImage[T]) -> tuple[str, str]:
    return item.name or item.adapter.digest, item.caller


def _key(item: QueuedImage[T]) -> _Key:
    return item.adapter.digest, item.caller, item.low
