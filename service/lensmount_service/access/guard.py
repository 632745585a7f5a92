"""Every route checks the caller's scope before it reads the request's body."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from fastapi.routing import APIRoute, APIRouter
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from lensmount_service.access.identity import Identity
from lensmount_service.access.policy import POLICY, Need
from lensmount_service.access.public_paths import with_slashes
from lensmount_service.errors import Forbidden


class GuardedRoute(APIRoute):
    """A route of `POLICY`: `APIRouter(route_class=GuardedRoute)`. Names in its path may be public/NAME."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        need = POLICY.get((scope["method"], self.path))
        if need is not None:  # otherwise the method does not exist, which the route itself answers
            require(scope["state"]["identity"], need)
        scope["path_params"] = with_slashes(scope["path_params"])
        await super().handle(scope, receive, send)


def require(identity: Identity, need: Need) -> None:
    """Raises Forbidden (`scope_missing`) if the caller may not do this."""
    if need == "any" or (identity.is_operator if need == "operator" else identity.may(need)):
        return
    wanted = "the scope admin in the default tenant" if need == "operator" else f"the scope {need}"
    raise Forbidden(
        f"found a token without {wanted}, expected one that has it. "
        "Fix: ask those who run the server for such a token (lensmount tokens create)",
        code="scope_missing",
    )


def require_policies(routers: Iterable[APIRouter], open_paths: Iterable[str]) -> None:
    """Raises RuntimeError if a route has no policy or does not check it, or if a policy has no route."""
    listed: set[tuple[str, str]] = set()
    is_open = frozenset(open_paths)
    for route in (route for router in routers for route in router.routes):
        path = cast(str, getattr(route, "path", ""))
        if path not in is_open:
            listed |= _listed(route, path)
    if missing := POLICY.keys() - listed:
        raise RuntimeError(f"found policies without a route, expected none: {sorted(missing)}")


def _listed(route: BaseRoute, path: str) -> set[tuple[str, str]]:
    keys = {(method, path) for method in getattr(route, "methods", None) or ()}
    if not isinstance(route, GuardedRoute) or not keys <= POLICY.keys():
        raise RuntimeError(
            f"found the route {path} without a policy, expected one in access/policy.py and "
            "route_class=GuardedRoute in its router"
        )
    return keys
