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


def test_the_end_of_the_log_is_where_later_records_begin(shared_client: TestClient) -> None:
    audit = shared_client.app.state.audit  # type: ignore[attr-defined]  # of our app
    audit.flush()
    last = shared_client.get("/audit").json()
    assert (last["next"], last["end"] is None) == (None, False)
    assert shared_client.get("/audit", params={"after": last["end"]}).json() == {**last, "records": []}

    shared_client.put("/adapters/cells/aliases/prod", json={"version": 1})
    audit.flush()
    (later,) = shared_client.get("/audit", params={"after": last["end"]}).json()["records"]
    assert later["target"] == "/adapters/cells/aliases/prod"
    assert later["digest"] == shared_client.get("/adapters/cells").json()["digest"]


def test_an_end_that_is_gone_is_answered_with_410_and_its_advice_works(shared_client: TestClient) -> None:
    gone = shared_client.get("/audit", params={"after": "1:5"})

    assert (gone.status_code, gone.json()["code"]) == (410, "audit_gone")
    assert "leave after out, and say in since" in gone.json()["detail"]
    assert shared_client.get("/audit", params={"since": 0}).status_code == 200


def test_the_future_has_no_records(shared_client: TestClient) -> None:
    page = shared_client.get("/audit", params={"since": 1e11}).json()
    assert (page["records"], page["next"]) == ([], None)
