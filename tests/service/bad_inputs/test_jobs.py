"""Jobs that nobody asks for by accident: what does not exist, what a state does not allow, what is somebody else's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.access.tokens import TokenStore
from lensmount_service.build import Parts
from lensmount_service.jobs.records import Lease

if TYPE_CHECKING:
    from tests.service.bad_inputs.conftest import Ask
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, Zip

pytestmark = pytest.mark.usefixtures("no_jobs_left")

INVALID = "invalid_request"
NOBODY = "0" * 32


# What a job may refer to


REFERENCES: dict[str, tuple[dict[str, Any], int, str]] = {
    "JOB-01 no dataset": ({"dataset": "nobody"}, 404, "dataset_not_found"),
    "JOB-01 no version": ({"dataset": "cells@9"}, 404, "dataset_not_found"),
    "JOB-01 a public one": ({"dataset": "public/nobody"}, 404, "dataset_not_found"),
    "JOB-01 version 0": ({"dataset": "cells@0"}, 422, "invalid_reference"),
    "JOB-01 a path": ({"dataset": "../cells"}, 422, "invalid_name"),
    "JOB-01 a key of another tenant": ({"dataset": "lab1/cells"}, 422, "invalid_name"),
    "JOB-01 a digest": ({"dataset": f"cells@sha256:{'0' * 64}"}, 422, "invalid_reference"),
    "JOB-01 nothing": ({"dataset": ""}, 422, "invalid_reference"),
    "JOB-01 NUL": ({"dataset": "cells\0"}, 422, "invalid_name"),
    "JOB-01 a list": ({"dataset": ["cells"]}, 422, INVALID),
    "JOB-01 a bad adapter": ({"adapter": "../malaria"}, 422, "invalid_name"),
    "JOB-01 a reserved adapter": ({"adapter": "latest"}, 422, "invalid_name"),
    "JOB-01 a reserved alias": ({"alias": "latest"}, 422, "invalid_name"),
    "JOB-01 a canary without an alias": ({"canary": 10}, 422, "invalid_request"),
    "JOB-01 somebody else's public name": ({"adapter": "public/malaria"}, 403, "public_read_only"),
}


@pytest.mark.parametrize("row", REFERENCES)
def test_a_job_refers_to_what_exists(api: TestClient, ask: Ask, refused: Any, row: str) -> None:
    fields, status, code = REFERENCES[row]

    refused(api, ask(api, **fields), status, code)


@pytest.mark.parametrize("purge", [False, True], ids=["JOB-01 deleted", "JOB-01 purged"])
def test_a_deleted_dataset_trains_nothing_and_no_old_job_brings_it_back(
    api: TestClient, ask: Ask, refused: Any, images: DrawImages, zipped: Zip, purge: bool
) -> None:
    assert api.put("/datasets/gone", content=zipped(images(seed=1, a=12, b=12))).status_code in (200, 201)
    job = ask(api, dataset="gone").json()
    path = f"/jobs/{job['id']}"
    assert api.delete(path).json()["state"] == "cancelled"
    assert api.delete(f"/datasets/gone?purge={str(purge).lower()}").status_code == 204

    refused(api, ask(api, dataset="gone"), 404, "dataset_not_found")
    version = job["dataset"]["version"]
    refused(api, ask(api, dataset=f"gone@{version}"), 410, "dataset_gone")
    refused(api, api.post(f"{path}/retry"), 410, "dataset_gone")
    assert api.get(path).json()["state"] == "cancelled"
    if not purge:
        assert api.post("/datasets/gone/undelete").status_code == 200
        assert api.post(f"{path}/retry").json()["state"] == "queued"


def test_job_02_a_hundred_equal_requests_at_once_make_one_job(api: TestClient) -> None:
    answers: list[Any] = []

    def send() -> None:
        for _ in range(20):
            answers.append(
                api.post("/jobs", json={"dataset": "cells", "adapter": "m"}, headers={"Idempotency-Key": "100-at-once"})
            )

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(api.get("/jobs").json()["jobs"]) == 1


@pytest.mark.parametrize("other", [{"epochs": 5}, {"adapter": "n"}, {"dataset": "cells@1"}, {"force": True}])
def test_job_03_a_key_with_another_body_is_refused(api: TestClient, refused: Any, other: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"dataset": "cells", "adapter": "m"}
    assert api.post("/jobs", json=body, headers=key).status_code == 201

    refused(api, api.post("/jobs", json=body | other, headers=key), 422, "idempotency_key_reuse")


# What a state allows


Move = Callable[[Parts, TestClient], Any]


def claimed(parts: Parts) -> Lease:
    lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    return lease


def ended(parts: Parts, state: str) -> None:
    error = None if state == "succeeded" else ("training_failed", "the loss is nan")
    parts.training.jobs.finish(claimed(parts), state, None, error)  # type: ignore[arg-type]  # a state


STATES: dict[str, tuple[Move, dict[str, tuple[int, str]]]] = {
    "JOB-04 queued": (lambda parts, api: None, {"cancel": (202, "cancelled"), "retry": (409, "job_not_finished")}),
    "JOB-04 running": (
        lambda parts, api: claimed(parts),
        {"cancel": (202, "running"), "retry": (409, "job_not_finished")},
    ),
    "JOB-04 succeeded": (
        lambda parts, api: ended(parts, "succeeded"),
        {"cancel": (409, "job_finished"), "retry": (409, "job_finished")},
    ),
    "JOB-04 failed": (
        lambda parts, api: ended(parts, "failed"),
        {"cancel": (409, "job_finished"), "retry": (202, "queued")},
    ),
    "JOB-04 cancelled": (
        lambda parts, api: api.delete(f"/jobs/{api.get('/jobs').json()['jobs'][0]['id']}"),
        {"cancel": (202, "cancelled"), "retry": (202, "queued")},
    ),
}


@pytest.mark.parametrize("action", ["cancel", "retry"])
@pytest.mark.parametrize("row", STATES)
def test_a_state_allows_what_it_allows_and_twice_is_the_same(
    api: TestClient, parts: Parts, ask: Ask, refused: Any, row: str, action: str
) -> None:
    move, allowed = STATES[row]
    path = f"/jobs/{ask(api).json()['id']}"
    move(parts, api)
    before = api.get(path).json()["state"]
    status, word = allowed[action]

    def act() -> Any:
        return api.delete(path) if action == "cancel" else api.post(f"{path}/retry")

    answer = act()
    if status == 409:
        refused(api, answer, status, word)
        assert api.get(path).json()["state"] == before
    else:
        assert (answer.status_code, answer.json()["state"]) == (status, word)
    again = act()
    if (action, answer.status_code) == ("retry", 202):
        refused(api, again, 409, "job_not_finished")
    else:
        assert (again.status_code, again.json().get("state")) == (answer.status_code, answer.json().get("state"))


def test_job_05_cancelling_while_publishing_gives_one_end_and_an_adapter_only_if_it_is_success(
    api: TestClient, parts: Parts, make_adapter: MakeAdapter
) -> None:
    ends = []
    for number in range(2):
        name = f"race-{number}"
        job = api.post("/jobs", json={"dataset": "cells", "adapter": name, "force": True}).json()
        lease = claimed(parts)
        headers = {"Lensmount-Lease": lease.token}
        barrier = threading.Barrier(2)

        def cancel(path: str = f"/jobs/{job['id']}", barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            api.delete(path)

        thread = threading.Thread(target=cancel)
        thread.start()
        barrier.wait()
        published = api.put(f"/adapters/{name}?job={job['id']}", content=make_adapter(8), headers=headers)
        thread.join()
        state = api.get(f"/jobs/{job['id']}").json()["state"]
        exists = api.get(f"/adapters/{name}").status_code == 200
        assert (published.status_code, state, exists) in ((201, "succeeded", True), (409, "running", False))
        if state == "running":
            parts.training.jobs.finish(lease, "cancelled")
        ends.append(state)
    assert len(ends) == 2


def test_job_06_no_door_lets_more_jobs_wait_than_the_limit(
    make_parts: MakeParts, archive: bytes, ask: Ask, refused: Any
) -> None:
    with make_parts(max_queued_jobs=3) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/datasets/cells", content=archive)
        first = [ask(client).json()["id"] for _ in range(3)]
        full = ask(client)
        refused(client, full, 429, "jobs_full")
        assert int(full.headers["Retry-After"]) > 0
        for job_id in first:
            client.delete(f"/jobs/{job_id}")
        assert [ask(client).status_code for _ in range(3)] == [201] * 3

        refused(client, client.post(f"/jobs/{first[0]}/retry"), 429, "jobs_full")
        assert len(client.get("/jobs?state=queued").json()["jobs"]) == 3


QUERIES: dict[str, tuple[str, str, str, int, str]] = {
    "JOB-07 wait": ("GET", "/jobs/{id}", "wait=1000000000", 200, ""),
    "JOB-07 a negative page": ("GET", "/jobs", "limit=-1", 422, INVALID),
    "JOB-07 a huge page": ("GET", "/jobs", "limit=1000000000", 422, INVALID),
    "JOB-07 a page after nobody": ("GET", "/jobs", f"before={NOBODY}", 404, "job_not_found"),
    "JOB-07 a state that is none": ("GET", "/jobs", "state=lost", 422, INVALID),
    "JOB-07 nobody's events": ("GET", f"/jobs/{NOBODY}/events", "", 404, "job_not_found"),
    "JOB-07 nobody's log": ("GET", f"/jobs/{NOBODY}/log", "", 404, "job_not_found"),
    "JOB-07 nobody's files": ("GET", f"/jobs/{NOBODY}/files", "", 404, "job_not_found"),
    "JOB-07 a file that is none": ("GET", "/jobs/{id}/files/none.txt", "", 404, "file_not_found"),
    "JOB-07 a file above": ("GET", "/jobs/{id}/files/..%2f..%2fregistry.sqlite3", "", 404, "not_found"),
    "JOB-07 the checkpoint": ("GET", "/jobs/{id}/files/checkpoint.pt", "", 404, "file_not_found"),
    "JOB-07 a file of no worker": ("PUT", "/jobs/{id}/files/card.md", "", 422, INVALID),
    "NAM-19 nobody's job": ("GET", f"/jobs/{NOBODY}", "", 404, "job_not_found"),
    "NAM-19 nobody's job to cancel": ("DELETE", f"/jobs/{NOBODY}", "", 404, "job_not_found"),
    "NAM-19 nobody's job to retry": ("POST", f"/jobs/{NOBODY}/retry", "", 404, "job_not_found"),
    "NAM-19 an id in upper case": ("GET", f"/jobs/{'A' * 32}", "", 422, INVALID),
    "NAM-19 an id of 31 digits": ("GET", f"/jobs/{'0' * 31}", "", 422, INVALID),
    "NAM-19 a UUID with dashes": ("GET", "/jobs/123e4567-e89b-12d3-a456-426614174000", "", 422, INVALID),
}


@pytest.mark.parametrize("row", QUERIES)
def test_a_question_about_no_job_is_refused(api: TestClient, ask: Ask, refused: Any, row: str) -> None:
    method, path, query, status, code = QUERIES[row]
    job_id = ask(api).json()["id"]

    answer = api.request(method, f"{path.format(id=job_id)}?{query}")
    if status == 200:
        assert answer.status_code == 200
    else:
        refused(api, answer, status, code, secret=str(api.app))


@pytest.mark.parametrize("token", ["0" * 32, "f" * 32, "", "x", "\u00e9"])
def test_job_07_a_lease_that_nobody_has_sends_no_file_and_publishes_nothing(
    api: TestClient, ask: Ask, make_adapter: MakeAdapter, token: str
) -> None:
    job_id = ask(api).json()["id"]
    headers: Any = {"Lensmount-Lease": token.encode()}

    for method, path, body in (
        ("PUT", f"/jobs/{job_id}/files/card.md", b"x"),
        ("PUT", f"/adapters/malaria?job={job_id}", make_adapter(30)),
    ):
        answer = api.request(method, path, content=body, headers=headers)
        assert answer.status_code in (409, 422), (path, answer.text)
    assert api.get("/adapters/malaria").status_code == 404


def test_nam_19_a_job_of_another_tenant_is_answered_like_none(make_parts: MakeParts, archive: bytes) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        tokens = TokenStore(parts.training.jobs.database)
        mine, theirs = (
            {"Authorization": f"Bearer {tokens.create('boss', ['admin'], tenant)[1]}"} for tenant in ("lab1", "lab2")
        )
        assert client.put("/datasets/cells", content=archive, headers=mine).status_code == 201
        body = {"dataset": "cells", "adapter": "malaria"}
        job_id = client.post("/jobs", json=body, headers=mine).json()["id"]

        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/log"), ("GET", "/files")):
            seen, none = (client.request(method, f"/jobs/{which}{path}", headers=theirs) for which in (job_id, NOBODY))
            assert (seen.status_code, seen.json()["code"]) == (none.status_code, none.json()["code"])
            assert seen.json()["detail"].replace(job_id, "") == none.json()["detail"].replace(NOBODY, "")
        assert client.post("/jobs", json=body, headers=theirs).json()["code"] == "dataset_not_found"
        assert client.get(f"/jobs/{job_id}", headers=mine).json()["state"] == "queued"
