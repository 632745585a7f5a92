from __future__ import annotations

from fastapi.testclient import TestClient


def test_pages_follow_each_other(shared_client: TestClient) -> None:
    shared_client.app.state.audit.flush()  # type: ignore[attr-defined]  # of our app

    first = shared_client.get("/audit", params={"limit": 1}).json()
    second = shared_client.get("/audit", params={"limit": 1, "after": first["next"]}).json()

    assert [page["records"][0]["target"] for page in (first, second)] == [
        "/adapters/cells/versions/1",
        "/adapters/tiles/versions/1",
    ]


def test_the_future_has_no_records(shared_client: TestClient) -> None:
    assert shared_client.get("/audit", params={"since": 1e11}).json() == {"records": [], "next": None}
