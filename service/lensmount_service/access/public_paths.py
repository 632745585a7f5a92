"""Paths such as /adapters/public/malaria: the name of an adapter or dataset in a path may be public/NAME."""

from __future__ import annotations

import re
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from lensmount_service.store.keys import PUBLIC

_PUBLIC = re.compile(
    "(?P<start>/(?:adapters|datasets|integrations/labelstudio|v1/models|v2/models|v2/repository/models|hf)"
    f"/{PUBLIC})/(?=[^/])"
)
_SLASH = "\0"  # in a public name while the path is matched, since a parameter of a path has no slash


class PublicPaths:
    """ASGI middleware: a route's {name} also matches public/NAME. The route calls `with_slashes`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (found := _PUBLIC.match(scope["path"])) is not None:
            scope = {**scope, "path": f"{found['start']}{_SLASH}{scope['path'][found.end() :]}"}
        await self.app(scope, receive, send)


def with_slashes(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a path as the client wrote them."""
    return {
        name: value.replace(_SLASH, "/", 1)
        if isinstance(value, str) and value.startswith(f"{PUBLIC}{_SLASH}")
        else value
        for name, value in parameters.items()
    }
