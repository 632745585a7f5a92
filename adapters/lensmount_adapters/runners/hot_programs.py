"""Programs that contain weights: compiled once in a background thread, then kept in a hot slot while they are used."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from lensmount_adapters.machine import LOW, lower_priority, release_memory
from lensmount_adapters.programs.executor import Program
from lensmount_adapters.runners.hot_cache import HotCache

log = logging.getLogger(__name__)


class HotPrograms:
    """`programs.make(key, compile_it)` returns at once; later `programs.cache.get(key)` returns the program.

    The key of an adapter's own program is the adapter's digest. Safe from any thread.
    """

    def __init__(self, max_bytes: int) -> None:
        self.cache: HotCache[Program] = HotCache(max_bytes)
        self._making: set[Hashable] = set()
        self._lock = threading.Lock()  # of `_making`; the engine's thread takes it too
        self._derived: list[Callable[[Hashable], tuple[Hashable, ...]]] = []
        self._background = ThreadPoolExecutor(
            1, thread_name_prefix="lensmount-prepare", initializer=partial(lower_priority, LOW)
        )

    def derive(self, keys_of: Callable[[Hashable], tuple[Hashable, ...]]) -> None:
        """Programs with the keys `keys_of(key)` are given up together with the program `key`. Called at start."""
        self._derived.append(keys_of)

    def make(self, key: Hashable, compile_it: Callable[[], Program]) -> None:
        """Compile in the background and keep the result. Does nothing if the program exists or is being compiled."""
        with self._lock:
            if key in self._making or key in self.cache:
                return
            self._making.add(key)

        def work() -> None:
            if key not in self._making:  # given up while it waited
                return
            try:
                program = compile_it()
                with self._lock:
                    if key in self._making:
                        self.cache.put(key, program, program.nbytes)
            finally:
                with self._lock:
                    self._making.discard(key)

        self.later(work)

    def give_up(self, key: Hashable) -> None:
        """Drop the program and those derived from it. One that is being compiled is dropped when it is finished."""
        with self._lock:
            for each in self._keys(key):
                self._making.discard(each)
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

        def logged() -> None:
            try:
                work()
            except Exception:  # the outermost frame of the background thread
                log.exception("no program was made; answers come the slower way")
            release_memory()  # compilers and admission leave a lot of unused memory behind

        with suppress(RuntimeError):  # closed: nothing needs the result any more
            self._background.submit(logged)

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

    def _keys(self, key: Hashable) -> tuple[Hashable, ...]:
        return (key, *(each for keys_of in self._derived for each in keys_of(key)))


def _end(future: Future[None]) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(None)
