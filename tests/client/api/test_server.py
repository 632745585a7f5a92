"""Health, limits and integrity: what is asked for, and how the answers are read."""

from __future__ import annotations

import json
from typing import Any

import httpx

from lensmount_client._api.server import health, integrity, limits
from lensmount_client._http.response import Response


def answer(fields: dict[str, Any]) -> Response:
    return Response(200, httpx.Headers({"content-type": "application/json"}), json.dumps(fields).encode())


def test_each_has_its_route_and_only_the_health_is_never_asked_for_again() -> None:
    routes = [(call.method, call.path, call.retried) for call in (health(), limits(), integrity())]
    assert routes == [("GET", "/health/ready", False), ("GET", "/limits", True), ("GET", "/integrity", True)]


def test_the_complete_answer_is_kept() -> None:
    ready = health().read(answer({"status": "ok", "version": "1"}))
    assert (ready.status, ready.report["version"]) == ("ok", "1")
    assert limits().read(answer({"max_image_bytes": 9})) == {"max_image_bytes": 9}
    checked = integrity().read(answer({"ok": False, "changed": ["conv1"]}))
    assert (checked.ok, checked.report["changed"]) == (False, ["conv1"])
