from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts


def test_the_server_says_who_one_is(shared_client: TestClient) -> None:
    found = shared_client.get("/whoami").json()

    assert (found["actor"], found["tenant"], found["operator"]) == ("loopback", "default", True)
    assert found["scopes"] == ["admin", "predict", "train", "upload"]
    assert set(found["quotas"].values()) == {None}


def test_the_own_worker_is_known_as_such_and_does_not_close_an_open_server(make_parts: MakeParts) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        headers = {"Authorization": f"Bearer {parts.app.state.worker_token}"}
        assert client.get("/whoami", headers=headers).json()["actor"] == "own-worker"
        assert client.get("/whoami").json()["actor"] == "loopback"
