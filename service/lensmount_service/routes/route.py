"""A route of this service: it checks the caller's scope, then the body."""

from __future__ import annotations

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.web.json_body import JsonRoute


class Route(GuardedRoute, JsonRoute):
    """`APIRouter(route_class=Route)`, for routers with a route whose body FastAPI reads."""
