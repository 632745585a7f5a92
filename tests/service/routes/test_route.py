from __future__ import annotations

import importlib
import pkgutil

from fastapi.routing import APIRoute, APIRouter

from lensmount_service import routes
from lensmount_service.routes.route import Route


def test_every_route_whose_body_fastapi_reads_comes_through_the_door_for_json() -> None:
    modules = [
        importlib.import_module(f"{routes.__name__}.{found.name}") for found in pkgutil.iter_modules(routes.__path__)
    ]
    routers = [module.router for module in modules if isinstance(getattr(module, "router", None), APIRouter)]
    with_body = [
        route for router in routers for route in router.routes if isinstance(route, APIRoute) and route.body_field
    ]

    assert {route.path for route in with_body} >= {"/jobs", "/adapters/{name}/aliases/{alias}"}
    assert [route.path for route in with_body if not isinstance(route, Route)] == []
