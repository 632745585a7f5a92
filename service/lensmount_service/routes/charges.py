"""Charges a limited token for images before they are decoded, and refunds what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

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
    return await _charge_pixels(_meter(request), request.state.identity, _pixels_of(parts, times))


def charge_bytes(request: Request, count: int) -> None:
    """Charge bytes that the server fetched, like those of a body. Raises QuotaExceeded or BodyTooLarge."""
    _meter(request).charge(request.state.identity, "bytes_per_minute", count)


def charged(
    request: Request, parts: Sequence[Part], adapters: int, max_queue: int, passes: int = 1
) -> AbstractAsyncContextManager[None]:
    """`async with charged(request, parts, 2, 256):` around the work on images, each for 2 adapters.

    `passes` says how often a network computes an image for one adapter.
    """
    pixels = _pixels_of(parts, adapters * passes)
    return charged_to(_meter(request), request.state.identity, len(parts) * adapters, pixels, max_queue)


@asynccontextmanager
async def charged_to(
    meter: Meter, identity: Identity, images: int, pixels: Callable[[], int], max_queue: int
) -> AsyncIterator[None]:
    """`charged` for a caller without an HTTP request. `pixels` is called in a thread, and only if they are limited."""
    with meter.queued(identity, images, max_queue):
        charge = await _charge_pixels(meter, identity, pixels)
        try:
            yield
        except (QueueFull, Unavailable):
            meter.refund(charge)
            raise


async def _charge_pixels(meter: Meter, identity: Identity, pixels: Callable[[], int]) -> Charge | None:
    if identity.quotas.pixels_per_minute is None:
        return None
    return meter.charge(identity, "pixels_per_minute", await asyncio.to_thread(pixels))


def _pixels_of(parts: Sequence[Part], times: int) -> Callable[[], int]:
    return lambda: times * sum(stated_pixels(part.data) for part in parts)


def _meter(request: Request) -> Meter:
    meter: Meter = request.app.state.meter
    return meter
