"""Which candidates this server has prepared. None gets a request before its adapter is in memory, with its program."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog

from lensmount_adapters.errors import LensmountError
from lensmount_adapters.runners.runner import Runner
from lensmount_service.errors import ServiceError
from lensmount_service.store.catalog import Snapshot

log = structlog.get_logger(__name__)

RETRY_S = 5.0  # after which a candidate that could not be prepared is tried again
PATIENCE_S = 10.0  # for a program; after that a candidate answers without one, which takes longer
MOST = 4096  # candidates that are known; the one that was asked for longest ago goes
MOST_WAITING = 64  # candidates that wait to be prepared

Resolve = Callable[[], Snapshot]


@dataclass(frozen=True, slots=True)
class InsteadOf:
    """A candidate will get this share of the images that the version with this digest gets now."""

    digest: str
    share: float


@dataclass(slots=True)
class _State:
    ready: bool = False
    busy: bool = False
    code: str | None = None  # why it could not be prepared
    again_at: float = 0.0


class Ready:
    """`ready.begin(rollout.id, 8, resolve)` in the background, then `ready.has(rollout.id, 8)`; safe from any thread.

    A rollout's `id` stands for its versions: another version has another one. `_lock` guards `_states` and `_waiting`.
    """

    def __init__(self, runner: Runner, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner = runner
        self._clock = clock
        self._states: OrderedDict[tuple[str, int], _State] = OrderedDict()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lensmount-candidates")
        self._closed: Future[None] = Future()

    def has(self, rollout: str, version: int) -> bool:
        """Whether the candidate can answer at once."""
        state = self._states.get((rollout, version))
        return state is not None and state.ready

    def trouble(self, rollout: str, version: int) -> str | None:
        """The code of the error that keeps a candidate from answering; None if it can, or was not tried yet."""
        state = self._states.get((rollout, version))
        return None if state is None or state.ready else state.code

    def prepare(self, resolve: Resolve, instead_of: InsteadOf | None = None) -> Future[None]:
        """Load a candidate and make the programs of its cut, which takes seconds if it is new. Raises what `resolve`
        does.

        Its own program is made in the background if there is room for it: the future is done then. Without it a batch
        takes half as long again, so wait for it, but not for longer than `PATIENCE_S`.
        """
        adapter = resolve().adapter
        if not self._runner.ready(adapter):
            self._runner.prepare(adapter)
        if instead_of is None:
            return self._runner.prefetch(adapter)
        return self._runner.prefetch(adapter, instead_of.digest, instead_of.share)

    def retire(self, digest: str) -> None:
        """The version with this digest lost, so its memory goes to others first."""
        self._runner.retire(digest)

    def mark(self, rollout: str, version: int) -> None:
        """Note that it was prepared."""
        self._set(rollout, version, _State(ready=True))

    def fail(self, rollout: str, version: int, code: str) -> None:
        """Note that it cannot answer, so that it gets no request until it was prepared again."""
        self._set(rollout, version, _State(code=code, again_at=self._clock() + RETRY_S))

    def begin(self, rollout: str, version: int, resolve: Resolve, instead_of: InsteadOf | None = None) -> None:
        """Prepare it in the background, unless it is ready, on the way, or failed a moment ago. Never waits."""
        key = rollout, version
        with self._lock:
            state = self._states.setdefault(key, _State())
            self._states.move_to_end(key)
            if state.ready or state.busy or self._clock() < state.again_at or self._waiting >= MOST_WAITING:
                return
            state.busy = True
            self._waiting += 1
            self._drop_oldest()
        try:
            self._thread.submit(self._make, key, resolve, instead_of)
        except RuntimeError:  # the server is stopping, so nobody waits for it
            return

    def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._thread.shutdown(cancel_futures=True)

    def _make(self, key: tuple[str, int], resolve: Resolve, instead_of: InsteadOf | None) -> None:
        try:
            wait((self.prepare(resolve, instead_of), self._closed), PATIENCE_S, FIRST_COMPLETED)
        except (ServiceError, LensmountError) as error:
            log.warning("candidate not prepared", rollout=key[0], version=key[1], reason=str(error))
            self.fail(*key, error.code)
        except Exception:  # the boundary of the thread: a network may raise anything
            log.exception("candidate not prepared", rollout=key[0], version=key[1])
            self.fail(*key, "forward_failed")
        else:
            self.mark(*key)
        finally:
            with self._lock:
                self._waiting -= 1

    def _set(self, rollout: str, version: int, state: _State) -> None:
        with self._lock:
            self._states[rollout, version] = state
            self._states.move_to_end((rollout, version))
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._states) > MOST:
            self._states.popitem(last=False)


async def until_made(programs: Sequence[Future[None]]) -> None:
    """Wait for what `Ready.prepare` returned, at most `PATIENCE_S`."""
    await asyncio.wait([asyncio.wrap_future(each) for each in programs], timeout=PATIENCE_S)
