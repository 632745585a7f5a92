"""The body that starts a rollout: what is refused, with advice that works, and what is prepared first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts

ALIAS = "/adapters/cells/aliases/prod"


@pytest.fixture(scope="module")
def api(make_shared_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    """`cells` has three versions, of which the third was deleted."""
    with make_shared_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for seed in (1, 2, 3):
            client.put("/adapters/cells", content=make_adapter(seed))
        client.delete("/adapters/cells/versions/3")
        yield client


def canary(**changes: Any) -> dict[str, Any]:
    return {"stable": 1, "canary": {"version": 2, "percent": 10, **changes}}


INVALID = "invalid_request"
REFUSED = {
    "neither version nor stable": ({}, 422, INVALID),
    "both": ({"version": 1, "stable": 1}, 422, INVALID),
    "a version with a canary": ({"version": 1, "canary": {"version": 2, "percent": 10}}, 422, INVALID),
    "stable alone": ({"stable": 1}, 422, "rollout_invalid"),
    "the stable version as canary": (canary(version=1), 422, "rollout_invalid"),
    "the stable version as shadow": ({"stable": 1, "shadow": {"version": 1}}, 422, "rollout_invalid"),
    "a version that is not there": (canary(version=9), 404, "version_not_found"),
    "a version that was deleted": (canary(version=3), 410, "version_deleted"),
    "a version as a text": (canary(version="2"), 422, INVALID),
    "a percentage as a text": (canary(percent="10"), 422, INVALID),
    "a percentage above 100": (canary(percent=100.5), 422, INVALID),
    "a negative percentage": (canary(percent=-1), 422, INVALID),
    "true as a percentage": (canary(percent=True), 422, INVALID),
    "no percentage": ({"stable": 1, "canary": {"version": 2}}, 422, INVALID),
    "an unknown key": (canary(key="patient"), 422, INVALID),
    "a header without a name": (canary(key="header:"), 422, INVALID),
    "a header with a space": (canary(key="header:a b"), 422, INVALID),
    "a header with a long name": (canary(key=f"header:{'a' * 65}"), 422, INVALID),
    "an unknown member": (canary(percents=1), 422, INVALID),
    "a sample above 1": ({"stable": 1, "shadow": {"version": 2, "sample": 2}}, 422, INVALID),
    "an unknown rule": ({**canary(), "rules": {"speed": 1}}, 422, INVALID),
    "a rule as a text": ({**canary(), "rules": {"errors": "0.1"}}, 422, INVALID),
    "a list as canary": ({"stable": 1, "canary": [2, 10]}, 422, INVALID),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_body_that_is_no_rollout_is_refused_and_changes_nothing(api: TestClient, what: str) -> None:
    body, status, code = REFUSED[what]
    answer = api.put(ALIAS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert api.get(ALIAS).json()["code"] == "alias_not_found"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999"])
def test_a_percentage_that_is_no_number_is_refused(api: TestClient, text: str) -> None:
    body = f'{{"stable": 1, "canary": {{"version": 2, "percent": {text}}}}}'
    answer = api.put(ALIAS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert api.get(ALIAS).json()["code"] == "alias_not_found"


def test_the_advice_for_a_body_without_a_version_works(api: TestClient) -> None:
    assert 'Fix: send {"version": 2}' in api.put(ALIAS, json={}).json()["detail"]
    assert api.put(ALIAS, json={"version": 2}).json()["version"] == 2
    advice = api.put(ALIAS, json={"version": 1, "rules": {}}).json()["detail"]
    assert "Fix: name the version as stable" in advice
    assert api.put(ALIAS, json={**canary(), "rules": {}}).json()["rollout"]["stable"] == 1
    api.delete(ALIAS)


def test_a_candidate_that_this_server_cannot_compute_starts_nothing(
    make_parts: MakeParts, make_adapter: MakeAdapter
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for seed in (1, 2):
            client.put("/adapters/cells", content=make_adapter(seed))
        digest = client.get("/adapters/cells/versions/2").json()["digest"]
        parts.engine.quarantine.damaged(digest, "its file is damaged")
        refused = client.put(ALIAS, json=canary())
        assert (refused.status_code, refused.json()["code"]) == (503, "adapter_corrupt")
        assert client.get(ALIAS).status_code == 404
