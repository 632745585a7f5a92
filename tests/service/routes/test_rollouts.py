"""A rollout over HTTP: started, changed, seen, promoted and rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.store.references import Reference

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts

ALIAS = "/adapters/cells/aliases/prod"
ROLLOUT = "/adapters/cells/rollouts/prod"
CANARY = {"stable": 1, "canary": {"version": 2, "percent": 10, "key": "client"}}


@pytest.fixture(scope="module")
def server(make_shared_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    """`cells` has three versions."""
    with make_shared_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for seed in (1, 2, 3):
            assert client.put("/adapters/cells", content=make_adapter(seed)).status_code == 201
        yield client


@pytest.fixture
def api(server: TestClient) -> Iterator[TestClient]:
    yield server
    server.delete(ALIAS)


def done(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def events(api: TestClient) -> list[str]:
    return [event["what"] for event in reversed(done(api.get(ROLLOUT)).json()["events"])]


def test_a_rollout_is_shown_with_its_alias_its_adapter_and_in_its_report(api: TestClient) -> None:
    made = done(api.put(ALIAS, json={**CANARY, "shadow": {"version": 3, "sample": 0.2}})).json()
    assert (made["version"], made["rollout"]["stable"]) == (1, 1)
    assert made["rollout"]["canary"] == {"version": 2, "percent": 10, "key": "client"}
    assert made["rollout"]["shadow"] == {"version": 3, "sample": 0.2}
    assert made["rollout"]["rules"]["worse_on_labels"] is True
    assert made["rollout"]["started_by"] == "loopback"
    assert done(api.get(ALIAS)).json() == made
    adapter = done(api.get("/adapters/cells")).json()
    assert (adapter["rollouts"], adapter["aliases"]) == ({"prod": made["rollout"]}, {"prod": 1})
    state = {**made["rollout"], "ready": True}
    report = done(api.get(ROLLOUT))
    assert done(api.get("/adapters/cells/rollouts")).json() == {"rollouts": [report.json()]}
    assert report.json()["rollout"] == state
    assert report.headers["ETag"] == api.get(ALIAS).headers["ETag"]
    assert [event["actor"] for event in report.json()["events"]] == ["loopback"]


def test_promote_and_roll_back_make_one_version_the_only_one_and_can_be_repeated(api: TestClient) -> None:
    for path, what, version in (("promote", "promoted", 2), ("rollback", "rolled_back", 1)):
        done(api.put(ALIAS, json=CANARY))
        ended = done(api.post(f"{ROLLOUT}/{path}"))
        assert (ended.json()["version"], ended.json()["rollout"]) == (version, None)
        again = done(api.post(f"{ROLLOUT}/{path}"))
        assert (again.json(), again.headers["ETag"]) == (ended.json(), ended.headers["ETag"])
        assert done(api.get(ALIAS)).json() == ended.json()
        assert events(api)[-2:] == ["started", what]
        assert api.get(ROLLOUT).json()["rollout"] is None
    assert refused(api.post(f"{ROLLOUT}/promote")) == (404, "rollout_not_found")


def test_an_etag_that_is_old_ends_nothing_and_a_repeated_end_meets_it(api: TestClient) -> None:
    before = done(api.put(ALIAS, json=CANARY)).headers["ETag"]
    current = done(api.put(ALIAS, json={**CANARY, "canary": {"version": 2, "percent": 50}})).headers["ETag"]
    assert current != before
    for path in ("promote", "rollback"):
        assert refused(api.post(f"{ROLLOUT}/{path}", headers={"If-Match": before})) == (412, "precondition_failed")
    done(api.post(f"{ROLLOUT}/promote", headers={"If-Match": current}))
    done(api.post(f"{ROLLOUT}/promote", headers={"If-Match": current}))
    assert events(api) == ["started", "changed", "promoted"]


def test_an_alias_without_a_rollout_says_how_one_starts(api: TestClient) -> None:
    assert refused(api.get(ROLLOUT)) == (404, "alias_not_found")
    assert refused(api.post(f"{ROLLOUT}/promote")) == (404, "alias_not_found")
    done(api.put(ALIAS, json={"version": 1}))
    for answer in (api.get(ROLLOUT), api.post(f"{ROLLOUT}/promote"), api.post(f"{ROLLOUT}/rollback")):
        assert refused(answer) == (404, "rollout_not_found")
        assert "Fix: start one with a canary or a shadow" in answer.json()["detail"]
    done(api.put(ALIAS, json=CANARY))  # the advice
    assert events(api) == ["started"]


def test_the_rollouts_of_a_shared_adapter_are_its_owners_business(api: TestClient) -> None:
    done(api.put(ALIAS, json=CANARY))
    assert api.put("/adapters/cells/shared").status_code in (200, 201, 204)
    try:
        shown = done(api.get("/adapters/public/cells")).json()
        assert shown["rollouts"]["prod"]["started_by"] is None
        assert done(api.get("/adapters/public/cells/aliases/prod")).json()["rollout"]["started_by"] is None
        for answer in (
            api.get("/adapters/public/cells/rollouts"),
            api.get("/adapters/public/cells/rollouts/prod"),
            api.post("/adapters/public/cells/rollouts/prod/promote"),
        ):
            assert refused(answer) == (403, "public_read_only")
    finally:
        api.delete("/adapters/cells/shared")


def test_a_rollout_is_over_for_the_next_request(api: TestClient) -> None:
    done(api.put(ALIAS, json={"stable": 1, "canary": {"version": 2, "percent": 100}}))
    catalog = api.app.state.context.catalog  # type: ignore[attr-defined]  # of our app
    assert catalog.resolve(Reference("cells", alias="prod")).version.rollout is not None
    done(api.post(f"{ROLLOUT}/rollback"))
    assert catalog.resolve(Reference("cells", alias="prod")).version.rollout is None
