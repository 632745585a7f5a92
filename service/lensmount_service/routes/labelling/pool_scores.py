"""What an adapter says about the images of a pool: computed in the background, image by image, and kept in memory.

The event loop owns all state. The engine computes these images like those of any request; few are queued at a time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog

from lensmount_adapters.errors import ExplainError, LensmountError
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.prepare import InputLimits, PreparedInput, prepare
from lensmount_adapters.runners.runner import GivesMaps
from lensmount_service.engine.engine import Answer
from lensmount_service.errors import QueueFull, QuotaExceeded, Unavailable
from lensmount_service.routes.context import AppContext
from lensmount_service.store.catalog import Snapshot
from lensmount_service.tenants.queues import CallerQueues
from lensmount_service.web.judgement import judged
from lensmount_service.web.pixels import stated_pixels

T = TypeVar("T")

log = structlog.get_logger(__name__)

AT_ONCE = 4  # images in the engine's queue, so that requests wait for little
MOST_POOLS = 2  # that are computed at a time, and as many more of callers who have none
KEPT = 20_000  # images, of all adapters: 50 MB with 1,280 features each. Those used last stay
RETRY_S = 0.5  # while the engine's queue or that of its images is full


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One image: `scores` [labels], `features` float16 [D] of the adapter's last map, or None if there is none."""

    scores: np.ndarray
    features: np.ndarray | None
    unfamiliar: bool


class PoolScores:
    """`await PoolScores(context).compute(queues, snapshot, "cells", digests, 1.0)`, then `scores.known(...)`."""

    def __init__(self, context: AppContext) -> None:
        settings = context.settings
        self._context = context
        self._limits = InputLimits(image=ImageLimits(settings.max_image_bytes, settings.max_pixels))
        self._known: OrderedDict[tuple[str, str], Scored | None] = OrderedDict()  # by adapter and image
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._callers: dict[tuple[str, str], str] = {}  # who pays for each

    def known(self, snapshot: Snapshot, digests: Sequence[str]) -> dict[str, Scored]:
        """Those of the images that are computed. An image whose file is damaged is never among them."""
        adapter, found = _adapter_key(snapshot), self._known
        return {digest: each for digest in digests if (each := found.get((adapter, digest))) is not None}

    async def compute(
        self, queues: CallerQueues, snapshot: Snapshot, name: str, digests: Sequence[str], wait_s: float
    ) -> int:
        """Compute what is missing, and wait up to `wait_s` seconds. Returns how many images are still missing.

        The first caller who asks pays. Raises QueueFull, or what ended the computation, such as QuotaExceeded: what is
        computed by then stays, and the next request continues from there.
        """
        adapter = _adapter_key(snapshot)
        if not self._missing(adapter, digests):
            return 0
        key = adapter, name
        task = self._tasks.get(key)
        if task is None:
            self._require_room(queues.caller)
            wanted = [digest for digest in digests if self._known.get((adapter, digest)) is None]
            task = self._tasks[key] = asyncio.create_task(self._compute(queues, snapshot, name, wanted))
            self._callers[key] = queues.caller
            task.add_done_callback(lambda ended: self._ended(key, ended))
        done, _ = await asyncio.wait({task}, timeout=wait_s)
        if done:
            task.result()
        return self._missing(adapter, digests)

    def _require_room(self, caller: str) -> None:
        most = MOST_POOLS if caller in self._callers.values() else 2 * MOST_POOLS
        if len(self._tasks) >= most:
            raise QueueFull(
                f"found {len(self._tasks)} pools that are computed, expected fewer. Fix: try again later",
                retry_after_s=10,
            )

    def _missing(self, adapter: str, digests: Sequence[str]) -> int:
        """How many are not computed. The others stay in memory for longer."""
        missing = 0
        for digest in digests:
            if (adapter, digest) in self._known:
                self._known.move_to_end((adapter, digest))
            else:
                missing += 1
        return missing

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._tasks[key], self._callers[key]
        if not task.cancelled() and (error := task.exception()) is not None:  # it may be that nobody waits for it
            log.warning("images of a pool not computed", dataset=key[1], reason=str(error))

    async def _compute(self, queues: CallerQueues, snapshot: Snapshot, name: str, digests: Sequence[str]) -> None:
        adapter = _adapter_key(snapshot)
        maps = await self._prepare(snapshot)
        for start in range(0, len(digests), AT_ONCE):
            some = digests[start : start + AT_ONCE]
            work = [self._one(queues, snapshot, name, digest, maps) for digest in some]
            scored = await asyncio.gather(*work)
            for digest, each in zip(some, scored, strict=True):
                self._known[adapter, digest] = each
                self._known.move_to_end((adapter, digest))
            while len(self._known) > KEPT:
                self._known.popitem(last=False)

    async def _prepare(self, snapshot: Snapshot) -> bool:
        """Whether the engine can give the last maps, whose means are the features."""
        runner = self._context.engine.runner
        if not runner.ready(snapshot.adapter):
            await asyncio.to_thread(runner.prepare, snapshot.adapter)
        if not isinstance(runner, GivesMaps):
            return False
        try:
            return await asyncio.to_thread(runner.prepare_maps, snapshot.adapter)
        except ExplainError:  # the features are not the mean of a map
            return False

    async def _one(self, queues: CallerQueues, snapshot: Snapshot, name: str, digest: str, maps: bool) -> Scored | None:
        """None for an image that cannot be read. Raises NotFound once the pool is deleted."""
        adapter, rule = snapshot.adapter, snapshot.adapter.manifest.preprocessing

        def read() -> PreparedInput:
            data = self._context.training.pools.read(name, digest)
            queues.charge(stated_pixels(data))
            return prepare(data, {rule}, self._limits)

        try:
            prepared = await _admitted(lambda: self._context.thumbnails.run(read, caller=queues.caller))
        except (LensmountError, Unavailable) as error:
            if isinstance(error, Unavailable) and error.code != "dataset_corrupt":
                raise  # such as a database that is busy for a moment
            log.warning("image of a pool not read", dataset=name, reason=str(error))
            return None

        async def submit() -> asyncio.Future[Answer]:
            image = prepared.inputs[rule]
            return asyncio.wrap_future(
                queues.compute_maps(adapter, image) if maps else queues.compute([(adapter, image)])[0]
            )

        return _scored(snapshot, await (await _admitted(submit)))


async def _admitted(ask: Callable[[], Awaitable[T]]) -> T:
    """The result of `ask`, which is asked again while a queue is full: requests of clients go first."""
    while True:
        try:
            return await ask()
        except QuotaExceeded:
            raise
        except QueueFull:
            await asyncio.sleep(RETRY_S)


def _adapter_key(snapshot: Snapshot) -> str:
    """Who asked, the adapter, and the thresholds of the alias by which it was asked for: an answer depends on both.

    A tenant must not notice which images another one has.
    """
    return f"{snapshot.reader} {snapshot.version.digest} {snapshot.version.thresholds}"


def _scored(snapshot: Snapshot, answer: Answer) -> Scored:
    scores = answer.scores.float().numpy()
    judgement = judged(snapshot, scores.tolist(), answer.pooled)
    features = None if answer.maps is None else answer.maps.float().mean((0, 2, 3)).cpu().numpy().astype(np.float16)
    return Scored(scores, features, judgement is not None and judgement.decision == "unfamiliar")
