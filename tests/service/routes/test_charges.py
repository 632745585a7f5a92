from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from lensmount_service.access.identity import Identity, Quotas
from lensmount_service.access.quotas import Meter
from lensmount_service.errors import DeadlineExceeded, QueueFull, Unavailable
from lensmount_service.routes.charges import charged
from lensmount_service.web.bodies import Part

ANN = Identity("reader1", "k", frozenset({"predict"}), "lab", Quotas(pixels_per_minute=1000, queue_share=1.0))


@pytest.mark.parametrize(
    ("error", "left"), [(QueueFull("full"), 0.0), (Unavailable("away"), 0.0), (DeadlineExceeded("late"), 30.0)]
)
def test_what_is_refused_without_work_is_refunded(error: Exception, left: float) -> None:
    meter = Meter(lambda: 0.0)
    app = SimpleNamespace(state=SimpleNamespace(meter=meter))
    scope: dict[str, Any] = {"type": "http", "app": app, "state": {"identity": ANN}}

    async def story() -> None:
        async with charged(Request(scope), [Part(b"x" * 10, None)], 3, 16):
            assert meter.used(ANN) == {"pixels_per_minute": 30.0, "queue_share": 3.0}
            raise error

    with pytest.raises(type(error)):
        asyncio.run(story())
    assert meter.used(ANN) == {"pixels_per_minute": left, "queue_share": 0.0}
