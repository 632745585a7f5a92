"""Notes each write and each refusal of an identity or a scope in the audit log, after its answer."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lensmount_service.access.audit import AuditLog, Record
from lensmount_service.access.identity import Identity
from lensmount_service.access.policy import POLICY

READ_ONLY = frozenset({"GET", "HEAD", "OPTIONS"})
NO_WRITES = frozenset(  # although their method is POST
    {
        *("/predict", "/explain", "/v2/repository/index", "/hf/{adapter}", "/invocations"),
        *("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"),
        *(f"/integrations/labelstudio/{{adapter}}/{last}" for last in ("setup", "predict")),
    }
)
MAX_TARGET = 200
_TEMPLATES = [(method, path, compile_path(path)[0]) for method, path in POLICY]


class Auditing:
    """Plain ASGI middleware around AccessMiddleware."""

    def __init__(self, app: ASGIApp, audit: AuditLog) -> None:
        self.app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, headers = 500, Headers()

        async def send_and_look(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], Headers(raw=message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, send_and_look)
        finally:
            refused = status in (401, 403)
            if refused or scope["method"] not in READ_ONLY:
                template = _template(scope)
                if refused or template not in NO_WRITES:
                    self._audit.add(_record(scope, template, status, headers))


def _record(scope: Scope, template: str, status: int, headers: Headers) -> Record:
    identity: Identity | None = scope.get("state", {}).get("identity")
    target = headers.get("location") or (scope["path"] if "{" in template else None)
    digest = headers.get("etag", "").strip('"').partition(";")[0]  # an alias's ETag has more than the digest
    return Record(
        time=round(time.time(), 3),
        actor="-" if identity is None else identity.actor,
        tenant="-" if identity is None else identity.tenant,
        action=f"{scope['method'][:16]} {template}",
        target=None if target is None else target.partition("?")[0][:MAX_TARGET],
        digest=digest if digest.startswith("sha256:") else None,
        request_id=scope.get("state", {}).get("request_id", "-"),
        status=status,
    )


def _template(scope: Scope) -> str:
    """The route's template; of a request that was refused before it reached its route, the one that it asked for."""
    route: BaseRoute | None = scope.get("route")
    if route is not None:
        return str(getattr(route, "path", "-"))
    asked = (scope["method"], scope["path"])
    return next((path for method, path, form in _TEMPLATES if asked[0] == method and form.fullmatch(asked[1])), "-")
