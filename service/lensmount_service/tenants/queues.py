"""The queues of a server as one caller uses them: what a request costs takes its caller's turns and is charged to it.

Routes and background work reach the engine, the decoders and the checks of archives only here, so that nothing runs
in the name of nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_service.access.identity import Identity
from lensmount_service.access.quotas import Charge, Meter
from lensmount_service.engine.engine import Answer, Engine
from lensmount_service.engine.fair_pool import USUAL, FairPool
from lensmount_service.errors import QueueFull, Unavailable
from lensmount_service.tracing.span import stage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallerQueues:
    """`queues.decode(work, pixels)`, `queues.compute([(adapter, image)], deadline)`; safe from any thread."""

    engine: Engine
    decoders: FairPool
    admissions: FairPool
    meter: Meter
    identity: Identity

    @property
    def caller(self) -> str:
        return self.identity.key

    def decode(self, work: Callable[[], T], pixels: float = USUAL) -> Future[T]:
        return self.decoders.submit_for((self.caller, "", object()), pixels, work)

    async def admit(self, work: Callable[[], T], cost: float = USUAL) -> T:
        """Check an archive or convert an adapter, one after the other. `cost` is in bytes."""
        with stage("admit"):
            return await asyncio.wrap_future(self.admissions.submit_for((self.caller, "", object()), cost, work))

    def compute(self, work: list[tuple[Adapter, Tensor]], deadline: float = math.inf) -> list[Future[Answer]]:
        return self.engine.submit_many(work, deadline, self.caller, tenant=self.identity.tenant)

    def compute_maps(self, adapter: Adapter, image: Tensor, deadline: float = math.inf) -> Future[Answer]:
        return self.engine.submit_for_maps(adapter, image, deadline, self.caller, self.identity.tenant)

    def compute_apart(self, adapter: Adapter, image: Tensor, deadline: float = math.inf) -> Future[Answer]:
        """An image of an adapter that is not published: it shares no batch with requests and counts in no metric."""
        work = [(adapter, image)]
        return self.engine.submit_many(work, deadline, self.caller, tenant=self.identity.tenant, trial=True)[0]

    def check_room(self, adapters: Sequence[Adapter]) -> None:
        self.engine.check_room(adapters, self.caller, self.decoders.waiting)

    @property
    def limits_pixels(self) -> bool:
        """Whether it is worth counting them."""
        return self.identity.quotas.pixels_per_minute is not None

    def charge(self, pixels: int) -> Charge | None:
        """Raises QuotaExceeded, or BodyTooLarge for more than a minute has."""
        return self.meter.charge(self.identity, "pixels_per_minute", pixels)

    @contextmanager
    def paying(self, pixels: int) -> Iterator[None]:
        """Charge, and give it back if the server has no room for the work."""
        charge = self.charge(pixels)
        try:
            yield
        except (QueueFull, Unavailable):
            self.meter.refund(charge)
            raise

    def queued(self, images: int, max_queue: int) -> AbstractContextManager[None]:
        """Count images against the caller's share of the queue meanwhile."""
        return self.meter.queued(self.identity, images, max_queue)

    def share(self, max_queue: int) -> int:
        """How many images of this caller may be in the queue."""
        return self.meter.share(self.identity, max_queue)
