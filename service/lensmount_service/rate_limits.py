"""Charges the requests and bytes of limited tokens before a route runs, and tells them what is left."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lensmount_service.access.identity import Identity
from lensmount_service.access.quotas import UNLIMITED, Charge, Meter
from lensmount_service.errors import ServiceError
from lensmount_service.web.problems import answer_to

REFUNDED = frozenset({429, 503})  # refused without work


class RateLimits:
    """Plain ASGI middleware inside AccessMiddleware. Requests of unlimited tokens pass through at once."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self.app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity: Identity | None = scope.get("state", {}).get("identity")
        if identity is None or identity.quotas == UNLIMITED:
            await self.app(scope, receive, send)
            return
        charges: list[Charge | None] = []

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] in REFUNDED:
                    self._refund(charges)
                MutableHeaders(scope=message).update(self._meter.headers(identity))
            await send(message)

        async def receive_charged() -> Message:
            """Of a body whose length is not stated, each part is charged as it arrives."""
            message = await receive()
            charges.append(self._meter.charge(identity, "bytes_per_minute", len(message.get("body", b""))))
            return message

        stated = Headers(scope=scope).get("content-length", "")
        length = int(stated) if stated.isdecimal() and len(stated) < 16 else None
        try:
            charges.append(self._meter.charge(identity, "requests_per_minute", 1))
            charges.append(self._meter.charge(identity, "bytes_per_minute", length or 0))
        except ServiceError as error:
            self._refund(charges)
            await answer_to(error, scope["state"]["request_id"])(scope, receive, send_with_limits)
            return
        await self.app(scope, receive if length is not None else receive_charged, send_with_limits)

    def _refund(self, charges: list[Charge | None]) -> None:
        while charges:
            self._meter.refund(charges.pop())
