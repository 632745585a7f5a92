"""Charges a limited token for images before they are decoded, and refunds what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Request

from lensmount_service.access.identity import Identity
from lensmount_service.access.quotas import Charge, Meter
from lensmount_service.errors import QueueFull, Unavailable
from lensmount_service.web.bodies import Part
from lensmount_service.web.pixels import stated_pixels


async def charge_pixels(request: Request, parts: Sequence[Part], times: int = 1) -> Charge | None:
    """Charge the pixels of these images, each `times` times. Free for a token without such a limit.

    Raises QuotaExceeded, or BodyTooLarge.
    """
    identity: Identity = request.state.identity
    if identity.quotas.pixels_per_minute is None:
        return None
    pixels = await asyncio.to_thread(lambda: sum(stated_pixels(part.data) for part in parts))
    return _meter(request).charge(identity, "pixels_per_minute", pixels * times)


@asynccontextmanager
async def charged(request: Request, parts: Sequence[Part], adapters: int, max_queue: int) -> AsyncIterator[None]:
    """`async with charged(request, parts, 2, 256):` around the work on images, each for 2 adapters."""
    identity: Identity = request.state.identity
    with _meter(request).queued(identity, len(parts) * adapters, max_queue):
        charge = await charge_pixels(request, parts, adapters)
        try:
            yield
        except (QueueFull, Unavailable):
            _meter(request).refund(charge)
            raise


def _meter(request: Request) -> Meter:
    meter: Meter = request.app.state.meter
    return meter
