"""lensmount_service.ray.local_only: callers of other machines, while nothing else protects the server."""

from __future__ import annotations

from fastapi.testclient import TestClient
from starlette.responses import Response

from lensmount_service.ray.local_only import LocalOnly


def status(host: str) -> int:
    client = TestClient(LocalOnly(Response("all")), base_url="http://localhost", client=(host, 1))
    answer = client.get("/adapters")
    assert answer.status_code == 200 or answer.json()["code"] == "unauthorized"
    return answer.status_code


def test_only_callers_of_this_machine_are_let_in() -> None:
    assert [status(host) for host in ("127.0.0.1", "127.1.2.3", "::1")] == [200, 200, 200]
    assert [status(host) for host in ("10.0.0.1", "::ffff:8.8.8.8", "testclient", "")] == [401, 401, 401, 401]
