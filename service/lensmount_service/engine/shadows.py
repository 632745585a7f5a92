"""What another version would have answered: computed after the answer, outside the engine's thread, shed first.

An image with a `Shadow` is computed as without it and its client is answered; then the engine offers what the pass
left to `Shadows`. A shadow that fails, hangs or gives no finite scores changes nothing for anybody: who asked for it is
told why there are none. Two threads, which start with the first image:

| thread | what it does |
|---|---|
| lensmount-shadows | takes images of one shadow from the queue, waits for their scores, tells them |
| lensmount-shadow | computes, at a low priority; left behind if it takes longer than `give_up_s` |

A shadow whose thread was left behind is not computed until that thread returns. A server that stops
waits a second for the threads; after that, one that computes is ended with the process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

import structlog
import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.machine import lower_priority
from lensmount_adapters.runners.kept_trunk import Branches, Kept
from lensmount_adapters.runners.runner import BatchScores

log = structlog.get_logger(__name__)

MOST_IMAGES = 64  # that wait
MOST_BYTES = 2**26  # that wait
TOGETHER = 16  # images of one shadow in a pass
GIVE_UP_S = 30.0  # a first pass merges the weights and compiles a program
MOST_LEFT_BEHIND = 4  # threads; with as many, nothing is computed until one returns
NICENESS = 10  # a tenth of a busy core; the lowest priority may get none for longer than `GIVE_UP_S`
IDLE_S = 60.0  # after which the programs are dropped
STOP_S = 1.0  # the longest wait for a thread when the server stops

Why = Literal["shed", "forward_failed", "deadline_exceeded", "output_not_finite", "not_ready"]
"""Why there are no scores; all but `shed` and `not_ready` are codes of problems, which blame the version."""


@dataclass(frozen=True, slots=True, eq=False)
class ShadowResult:
    """What the shadow answered for one image: `scores` [classes], or `why` there are none.

    `stable` and `stable_pooled` are those of the answer that was given. `seconds` is the time of the pass, and
    `shared_trunk` tells whether it started from the trunk of the answer's own pass.
    """

    stable: Tensor
    stable_pooled: Tensor | None
    scores: Tensor | None = None
    pooled: Tensor | None = None
    why: Why | None = None
    seconds: float = 0.0
    shared_trunk: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """The adapter that an image is also computed with, and who is told what it answered. `tell` has to return soon."""

    adapter: Adapter
    tell: Callable[[ShadowResult], object]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    shadow: Shadow
    kept: Kept
    stable: Tensor
    stable_pooled: Tensor | None

    def tell(
        self, why: Why | None, seconds: float = 0.0, scores: Tensor | None = None, pooled: Tensor | None = None
    ) -> None:
        shared = not self.kept.from_image
        _tell(self.shadow, ShadowResult(self.stable, self.stable_pooled, scores, pooled, why, seconds, shared))


class Shadows:
    """`shadows.offer(shadow, kept, scores, pooled)` returns at once; safe from any thread.

    `busy` tells whether images wait for the engine, or the server stops: then nothing is computed.
    """

    def __init__(
        self, branches: Callable[[], Branches], busy: Callable[[], bool], *, give_up_s: float = GIVE_UP_S
    ) -> None:
        self._branches = branches
        self._busy = busy
        self._give_up_s = give_up_s
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()  # of the four above
        self._computing: _Computing | None = None  # this and the next belong to lensmount-shadows
        self._left_behind: dict[str, _Computing] = {}  # by the digest of the shadow; replaced

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return len(self._queue)

    @property
    def nbytes(self) -> int:
        """Of what waits in the queue."""
        return self._bytes

    def offer(self, shadow: Shadow, kept: Kept | None, stable: Tensor, stable_pooled: Tensor | None) -> None:
        """Compute the shadow later, or tell why not. `kept` is None if the pass left nothing for it."""
        if kept is None:
            _tell(shadow, ShadowResult(stable, stable_pooled, why="not_ready"))
            return
        waiting = _Waiting(shadow, kept, stable, stable_pooled)
        why = self._why_not(shadow.adapter.digest)
        if why is None and self._add(waiting):
            return
        waiting.tell(why or "shed")

    @property
    def is_computing(self) -> bool:
        """Whether a thread computes that cannot be stopped."""
        current = self._computing
        return any(not each.ended for each in (*self._left_behind.values(), *([current] if current else [])))

    def close(self) -> None:
        """Shed what waits, and let the threads end; nothing is computed afterwards."""
        with self._wake:
            self._closed = True
            rest, self._bytes = list(self._queue), 0
            self._queue.clear()
            self._wake.notify_all()
        for waiting in rest:
            waiting.tell("shed")

    def join(self) -> None:
        """After `close`: wait a little for the threads. One that hangs is left behind."""
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _why_not(self, digest: str) -> Why | None:
        if self._busy():
            return "shed"
        stuck = [each for each, computing in self._left_behind.items() if not computing.ended]
        if digest in stuck:
            return "deadline_exceeded"
        return "shed" if len(stuck) >= MOST_LEFT_BEHIND else None

    def _add(self, waiting: _Waiting) -> bool:
        with self._wake:
            if self._closed or len(self._queue) >= MOST_IMAGES or self._bytes + waiting.kept.nbytes > MOST_BYTES:
                return False
            self._queue.append(waiting)
            self._bytes += waiting.kept.nbytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lensmount-shadows", daemon=True)
                self._thread.start()
            self._wake.notify()
        return True

    def _run(self) -> None:
        while run := self._take():
            why = self._why_not(run[0].shadow.adapter.digest)
            if why is None:
                self._compute(run)
            else:
                for waiting in run:
                    waiting.tell(why)
            del run  # what a pass left is not kept while nothing waits
        if self._computing is not None:
            self._computing.end(STOP_S)

    def _take(self) -> list[_Waiting]:
        """The images of the shadow that waits longest, at most `TOGETHER`; none once this is closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return []
            digest = self._queue[0].shadow.adapter.digest
            run: list[_Waiting] = []
            rest: deque[_Waiting] = deque()
            for waiting in self._queue:
                same = waiting.shadow.adapter.digest == digest and len(run) < TOGETHER
                (run if same else rest).append(waiting)
            self._queue = rest
            self._bytes -= sum(waiting.kept.nbytes for waiting in run)
            return run

    def _compute(self, run: Sequence[_Waiting]) -> None:
        adapter = run[0].shadow.adapter
        if self._computing is None:
            self._computing = _Computing(self._branches)
        started = time.perf_counter()
        future = self._computing.submit([waiting.kept for waiting in run])
        why, outcome = self._outcome(future, adapter)
        seconds = time.perf_counter() - started
        for number, waiting in enumerate(run):
            if outcome is None:
                waiting.tell(why, seconds)
            elif not torch.isfinite(outcome.scores[number]).all():
                waiting.tell("output_not_finite", seconds)
            else:
                waiting.tell(None, seconds, outcome.scores[number], outcome.pooled[number])

    def _outcome(self, future: Future[BatchScores], adapter: Adapter) -> tuple[Why | None, BatchScores | None]:
        try:
            return None, future.result(self._give_up_s)
        except Exception as error:  # the loop's boundary: a shadow may raise anything
            if future.done():
                log.warning("shadow failed", digest=adapter.digest, reason=f"{type(error).__name__}: {error}"[:400])
                return "forward_failed", None
        assert self._computing is not None  # it has the future
        log.error("shadow given up", digest=adapter.digest, after_s=self._give_up_s)
        self._computing.end()
        stuck = {digest: each for digest, each in self._left_behind.items() if not each.ended}
        self._left_behind = {**stuck, adapter.digest: self._computing}
        self._computing = None
        return "deadline_exceeded", None


class _Computing:
    """The thread that computes, with programs of its own."""

    def __init__(self, make: Callable[[], Branches]) -> None:
        self._make = make
        self._work: SimpleQueue[tuple[Sequence[Kept], Future[BatchScores]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lensmount-shadow", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def submit(self, kept: Sequence[Kept]) -> Future[BatchScores]:
        future: Future[BatchScores] = Future()
        self._work.put((kept, future))
        return future

    def end(self, timeout_s: float = 0.0) -> None:
        """End after what it computes now, and wait this long for it."""
        self._work.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        lower_priority(NICENESS)
        branches: Branches | None = None
        while True:
            try:
                task = self._work.get(timeout=IDLE_S)
            except Empty:
                branches = None
                continue
            if task is None:
                return
            kept, future = task
            try:
                branches = branches or self._make()
                future.set_result(branches.scores(kept))
            except Exception as error:  # who waits for the future gets it
                future.set_exception(error)
            del task, kept, future  # otherwise they live until the next image


def _tell(shadow: Shadow, result: ShadowResult) -> None:
    try:
        shadow.tell(result)
    except Exception:  # neither the engine nor the other shadows may depend on who is told
        log.exception("a result of a shadow was lost", digest=shadow.adapter.digest)
