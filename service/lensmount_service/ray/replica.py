"""One replica: a whole server without its port. The ordinary application answers, with its own engine and scheduler."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import structlog

from lensmount_adapters.light_timm import import_timm
from lensmount_service import logs
from lensmount_service.errors import Unavailable
from lensmount_service.ray.exchange import Exchange
from lensmount_service.ray.messages import Asked, Head, Piece, Taken
from lensmount_service.ray.scaling import PIXELS, WAITING
from lensmount_service.settings import Settings
from lensmount_service.startup import SWITCH_S

log = structlog.get_logger(__name__)

STARTING = ".starting"  # locked while one replica of a state folder starts
SCRUBBING = ".scrubbing"  # locked by the one replica that reads the stored files again


class EngineReplica:
    """Ray makes it with `await`, calls `answer` for each request, and `tell` for bodies that are sent in pieces.

    `name` is the replica's own, by which the router knows it. `worker_token` is what the door's worker sends.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, settings: Settings, worker_token: str, name: str
    ) -> None:
        gc.disable()
        import_timm()
        from lensmount_service.build import open_parts  # imports torch

        logs.configure(settings)
        self._name = name
        self._exchanges: dict[str, Exchange] = {}
        self._stack = AsyncExitStack()
        with alone_at_start(settings.state):  # migrations and the zoo are for one at a time
            scrubs = self._stack.enter_context(if_first(settings.state))
            parts = self._stack.enter_context(open_parts(settings if scrubs else _without_scrubber(settings)))
        parts.app.state.authenticator.worker_token = worker_token
        await self._stack.enter_async_context(parts.app.router.lifespan_context(parts.app))
        self._parts = parts
        self._pixels_before = (time.monotonic(), 0.0)
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()
        gc.enable()
        log.info("replica serves", replica=name, scrubs=scrubs, **parts.engine.runner.describe())

    async def answer(self, asked: Asked) -> AsyncGenerator[Taken | Head | bytes, None]:
        exchange = self._exchanges[asked.key] = Exchange(self._parts.app, asked, self._name)
        try:
            async with contextlib.aclosing(exchange.messages()) as messages:
                async for message in messages:
                    yield message
        finally:
            self._exchanges.pop(asked.key, None)

    async def tell(self, piece: Piece) -> None:
        exchange = self._exchanges.get(piece.key)
        if exchange is not None:
            await exchange.give(piece)

    async def page(self) -> tuple[str, bytes]:
        """The replica's name and its page of metrics."""
        page, _ = await self._parts.app.state.context.metrics_page.get()
        return self._name, page

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `scaling` reads: images that wait now, and pixels a second that arrived since the last call."""
        before, pixels = self._pixels_before
        now, decoded = time.monotonic(), self._parts.app.state.context.decoders.pixels
        self._pixels_before = now, decoded
        rate = (decoded - pixels) / max(now - before, 1e-3)
        return {WAITING: float(self._parts.engine.waiting), PIXELS: rate}

    def check_health(self) -> None:
        """Raises if the device answers no more, so that Ray replaces this replica."""
        if self._parts.engine.lost:
            raise self._parts.engine.lost_error()

    async def close(self) -> None:
        """Finish the jobs and batches in progress. Ray lets the requests end first."""
        parts = getattr(self, "_parts", None)  # none if the start failed
        if parts is not None:
            parts.training.stopping.set()
        await self._stack.aclose()


@contextmanager
def alone_at_start(state: Path) -> Iterator[None]:
    """Wait until no other replica of this folder starts. The operating system ends the lock with the process."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock_file(state / STARTING) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def if_first(state: Path) -> Iterator[bool]:
    """True for one process of this folder at a time, as long as it lasts."""
    with _lock_file(state / SCRUBBING) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot use {path}: {error.strerror}. Fix: make it readable and writable") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _without_scrubber(settings: Settings) -> Settings:
    return settings.model_copy(update={"scrub_bytes_per_s": 0})
