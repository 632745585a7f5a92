"""Programs that contain weights: compiled once in a background thread, then kept in a hot slot while they are used."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from lensmount_adapters.machine import LOW, LOWEST, lower_priority, release_memory
from lensmount_adapters.programs.executor import Program
from lensmount_adapters.runners.hot_cache import HotCache

log = logging.getLogger(__name__)

LEISURE_S = 60.0

PAUSES_S = (1.0, 300.0)  # after a second failure in a row, and the longest; each is twice the one before


@dataclass(frozen=True, slots=True)
class _Pause:
    """A program that failed is not tried before `until`; after one more failure, not for `next_s`."""

    until: float
    next_s: float


class HotPrograms:
    """`programs.make(key, compile_it)` returns at once; later `programs.cache.get(key)` returns the program.

    The key of an adapter's own program is the adapter's digest. Safe from any thread.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.cache: HotCache[Program] = HotCache(max_bytes)
        self._clock = clock
        self._making: set[Hashable] = set()
        self._failed: dict[Hashable, _Pause] = {}
        self._lock = threading.Lock()  # of `_making` and `_failed`; the engine's thread takes it too
        self._derived: list[Callable[[Hashable], tuple[Hashable, ...]]] = []
        self._background = ThreadPoolExecutor(
            1, thread_name_prefix="lensmount-prepare", initializer=partial(lower_priority, LOW)
        )
        self._measuring = ThreadPoolExecutor(
            1, thread_name_prefix="lensmount-measure", initializer=partial(lower_priority, LOWEST)
        )

    def derive(self, keys_of: Callable[[Hashable], tuple[Hashable, ...]]) -> None:
        """Programs with the keys `keys_of(key)` are given up together with the program `key`. Called at start."""
        self._derived.append(keys_of)

    def make(self, key: Hashable, compile_it: Callable[[], Program]) -> None:
        """Compile in the background and keep the result. Does nothing if the program exists or is being compiled.

        One that failed twice is not tried again for a while, so that a full device is not kept busy with failures.
        """
        with self._lock:
            paused = key in self._failed and self._clock() < self._failed[key].until
            if paused or key in self._making or key in self.cache:
                return
            self._making.add(key)

        def work() -> None:
            if key not in self._making:  # given up while it waited
                return
            try:
                program = compile_it()
                with self._lock:
                    self._failed.pop(key, None)
                    if key in self._making:
                        self.cache.put(key, program, program.nbytes)
            except Exception:
                self._pause(key)
                raise
            finally:
                with self._lock:
                    self._making.discard(key)

        self.later(work)

    def give_up(self, key: Hashable) -> None:
        """Drop the program and those derived from it. One that is being compiled is dropped when it is finished."""
        with self._lock:
            for each in self._keys(key):
                self._making.discard(each)
                self._failed.pop(each, None)
                self.cache.drop(each)

    def retire(self, key: Hashable) -> None:
        """Nobody is expected to need the program: it is not compiled any more, and others may take its memory."""
        with self._lock:
            for each in self._keys(key):
                self._making.discard(each)
                self.cache.retire(each)

    def is_hot(self, key: Hashable) -> bool:
        """Whether the program, or one derived from it, is in memory."""
        return any(each in self.cache for each in self._keys(key))

    def later(self, work: Callable[[], None]) -> None:
        """Do the work in the background thread. An error is logged: answers are slower without the program."""
        self._submit(self._background, work)

    def at_leisure(self, work: Callable[[], None]) -> None:
        """Do the work in a thread of its own, not before LEISURE_S have passed: a start needs its programs first.

        It may take a minute, during which others are made as before.
        """
        if not LEISURE_S:
            self.later(work)
            return
        timer = threading.Timer(LEISURE_S, self._submit, (self._measuring, work))
        timer.daemon = True  # it only waits, so a process that ends need not wait for it
        timer.start()

    def when_done(self, done: Future[None]) -> None:
        """Set the future once the background thread has done everything that was asked for before this call."""
        with suppress(RuntimeError):  # closed
            self._background.submit(_end, done)

    def settle(self) -> None:
        """Wait until the background thread has done everything that was asked for before this call."""
        self._background.submit(lambda: None).result()

    def close(self) -> None:
        """Cancel the work that has not started, and wait for the rest."""
        self._background.shutdown(cancel_futures=True)
        self._measuring.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        def logged() -> None:
            try:
                work()
            except Exception:  # the outermost frame of the background thread
                log.exception("no program was made; answers come the slower way")
            release_memory()  # compilers and admission leave a lot of unused memory behind

        with suppress(RuntimeError):  # closed: nothing needs the result any more
            pool.submit(logged)

    def _pause(self, key: Hashable) -> None:
        with self._lock:
            pause_s = self._failed[key].next_s if key in self._failed else 0.0
            self._failed[key] = _Pause(self._clock() + pause_s, min(max(2 * pause_s, PAUSES_S[0]), PAUSES_S[1]))

    def _keys(self, key: Hashable) -> tuple[Hashable, ...]:
        return (key, *(each for keys_of in self._derived for each in keys_of(key)))


def _end(future: Future[None]) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(None)
