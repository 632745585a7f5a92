from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter

from lensmount_service.access.guard import GuardedRoute, require, require_policies
from lensmount_service.access.identity import Identity
from lensmount_service.access.policy import POLICY
from lensmount_service.errors import Forbidden


def routed(path: str, **options: Any) -> APIRouter:
    router = APIRouter(**options)
    router.add_api_route(path, lambda: None, methods=["GET"])
    return router


def test_a_token_without_the_scope_is_refused_with_the_way_to_one_that_has_it() -> None:
    reader = Identity("reader1", "1", frozenset({"predict"}), "lab1")

    require(reader, "predict")
    require(reader, "any")
    with pytest.raises(Forbidden, match=r"without the scope upload, .*Fix: ask .*lensmount tokens create") as refused:
        require(reader, "upload")
    assert refused.value.code == "scope_missing"
    with pytest.raises(Forbidden, match="without the scope admin in the default tenant"):
        require(Identity("reader1", "1", frozenset({"admin"}), "lab1"), "operator")


def test_a_route_without_a_policy_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="the route /secrets without a policy"):
        require_policies([routed("/secrets", route_class=GuardedRoute)], [])


def test_a_route_that_does_not_check_its_policy_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="the route /limits without a policy"):
        require_policies([routed("/limits")], [])


def test_a_policy_without_a_route_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICY, ("GET", "/gone"), "any")

    with pytest.raises(RuntimeError, match=r"policies without a route, .*'/gone'"):
        require_policies([routed("/limits", route_class=GuardedRoute)], [])


def test_open_paths_need_no_policy() -> None:
    with pytest.raises(RuntimeError, match="policies without a route"):
        require_policies([routed("/health/live")], ["/health/live"])
