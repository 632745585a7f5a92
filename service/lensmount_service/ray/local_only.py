"""Refuses callers of other machines while the server has no other protection, which Ray's proxy does not know.

`lensmount serve` without a token listens on loopback only. Behind Ray's proxy the address is Ray's setting, so the door
looks at where a connection comes from.
"""

from __future__ import annotations

import ipaddress
import uuid

from starlette.types import ASGIApp, Receive, Scope, Send

from lensmount_service.errors import Unauthorized
from lensmount_service.web.problems import answer_to


class LocalOnly:
    """ASGI middleware for `settings.is_loopback`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_local(scope.get("client")):
            error = Unauthorized(
                "found a caller of another machine, and LENSMOUNT_HOST is a loopback address. Fix: make a token, then "
                "start with LENSMOUNT_HOST=0.0.0.0"
            )
            await answer_to(error, uuid.uuid4().hex)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_local(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
