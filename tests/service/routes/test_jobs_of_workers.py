"""What a worker does over HTTP with the lease of a job: it leaves files and publishes the adapter, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.testclient import TestClient

from lensmount_service.build import Parts
from lensmount_service.jobs.records import Lease

if TYPE_CHECKING:
    from httpx2 import Response
    from tests.service.conftest import MakeAdapter, MakeParts
    from tests.service.routes.conftest import Claim, Submit

HEADERS = {"Content-Type": "application/zip"}


def refused(answer: Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def held(lease: Lease) -> dict[str, str]:
    return {"Lensmount-Lease": lease.token}


def test_a_worker_uploads_files_and_all_but_the_checkpoint_are_public(api: TestClient, lease: Lease) -> None:
    path = f"/jobs/{lease.id}/files"
    for name in ("card.md", "report.html", "checkpoint"):
        assert api.put(f"{path}/{name}", content=b"<p>hello", headers=held(lease)).status_code == 204
    digest = "sha256:dfb43d8c7a4bba9a2ed03d9a81c36b9cbad80ae2a91c0f2a2b0d0f8e0c8a3b4c"
    listed = api.get(path).json()["files"]
    assert [(file["name"], file["size_bytes"]) for file in listed] == [("card.md", 8), ("report.html", 8)]
    assert len(listed[0]["digest"]) == len(digest)
    report = api.get(f"{path}/report.html")
    assert (report.content, report.headers["content-type"]) == (b"<p>hello", "text/html; charset=utf-8")
    assert "sandbox" in report.headers["content-security-policy"]
    refused(api.get(f"{path}/checkpoint"), 404, "file_not_found")
    assert api.get(f"{path}/checkpoint", headers=held(lease)).content == b"<p>hello"
    refused(api.get(f"{path}/metrics.json"), 404, "file_not_found")


def test_a_file_is_whole_whatever_range_is_asked_for(api: TestClient, lease: Lease) -> None:
    path = f"/jobs/{lease.id}/files/card.md"
    api.put(path, content=b"<p>hello", headers=held(lease))
    for wanted in ("bytes=0-1", "bytes=5-1", "bytes=99-", "bytes=x", "lines=1-2", "bytes=" + "0-1," * 1000, "\xff"):
        answer = api.get(path, headers={b"Range": wanted.encode("latin-1")})
        assert (answer.status_code, answer.content) == (200, b"<p>hello")
        assert answer.headers["accept-ranges"] == "none"


def test_a_worker_without_the_lease_stores_nothing(api: TestClient, parts: Parts, lease: Lease, tmp_path: Path) -> None:
    path = f"/jobs/{lease.id}/files/card.md"
    refused(api.put(path, content=b"x"), 422, "invalid_request")
    refused(api.put(path, content=b"x", headers={"Lensmount-Lease": "0" * 32}), 409, "lease_lost")
    for name in ("secrets.txt", "..", "%2e%2e%2fregistry.sqlite3", ".tmp"):
        answer = api.put(f"/jobs/{lease.id}/files/{name}", content=b"x", headers=held(lease))
        assert answer.status_code in (404, 405)
    parts.training.jobs.give_back(lease)
    refused(api.put(path, content=b"x", headers=held(lease)), 409, "lease_lost")
    assert list((tmp_path / "jobs").rglob("*.*")) == []


def test_a_file_over_the_limit_stores_nothing(
    make_parts: MakeParts, archive: bytes, tmp_path: Path, submit: Submit, claim: Claim
) -> None:
    with make_parts(max_job_file_bytes=1024) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/datasets/cells", content=archive, headers=HEADERS)
        submit(client)
        lease = claim(parts)
        answer = client.put(f"/jobs/{lease.id}/files/card.md", content=b"x" * 1025, headers=held(lease))
        refused(answer, 413, "body_too_large")
        assert list((tmp_path / "jobs").rglob("*.*")) == []


def test_a_publication_creates_the_version_sets_the_alias_and_ends_the_job(
    api: TestClient, parts: Parts, make_adapter: MakeAdapter, tmp_path: Path, submit: Submit, claim: Claim
) -> None:
    job = submit(api, adapter="malaria", alias="prod")
    lease = claim(parts)
    api.put(f"/jobs/{lease.id}/files/checkpoint", content=b"x", headers=held(lease))
    parts.training.jobs.store_outcome(lease, {"published": False, "gate": {"replaced": None}})
    put = f"/adapters/malaria?job={lease.id}&alias=prod"

    first = api.put(put, content=make_adapter(1), headers=held(lease))
    assert (first.status_code, first.json()["version"]) == (201, 1)
    again = api.put(put, content=make_adapter(1), headers=held(lease))  # the first response was lost
    assert (again.status_code, again.json()) == (200, first.json())
    ended = api.get(f"/jobs/{job['id']}").json()
    assert (ended["state"], ended["result"]["published"], ended["result"]["adapter"]) == (
        "succeeded",
        True,
        first.json(),
    )
    assert api.get("/adapters/malaria").json()["aliases"] == {"prod": 1}
    assert not (tmp_path / "jobs" / lease.id / "checkpoint").exists()


def test_a_publication_by_a_worker_that_lost_its_lease_is_refused(
    api: TestClient, parts: Parts, lease: Lease, make_adapter: MakeAdapter, claim: Claim
) -> None:
    parts.training.jobs.give_back(lease)
    heir = claim(parts)
    for token in (lease.token, "0" * 32):
        answer = api.put(
            f"/adapters/malaria?job={lease.id}", content=make_adapter(1), headers={"Lensmount-Lease": token}
        )
        refused(answer, 409, "lease_lost")
    assert api.get("/adapters").json() == {"adapters": []}
    answer = api.put(f"/adapters/malaria?job={heir.id}", content=make_adapter(2), headers=held(heir))
    assert answer.status_code == 201
    answer = api.put(f"/adapters/malaria?job={lease.id}", content=make_adapter(1), headers=held(lease))
    refused(answer, 409, "lease_lost")
    assert api.get("/adapters/malaria").json()["versions"] == [1]


def test_a_publication_under_another_name_or_alias_is_refused(
    api: TestClient, lease: Lease, make_adapter: MakeAdapter
) -> None:
    for target in (f"tiles?job={lease.id}", f"malaria?job={lease.id}&alias=prod"):
        answer = api.put(f"/adapters/{target}", content=make_adapter(1), headers=held(lease))
        refused(answer, 422, "invalid_request")
    assert api.get("/adapters").json() == {"adapters": []}


def test_a_publication_of_a_job_to_be_cancelled_is_refused(
    api: TestClient, lease: Lease, make_adapter: MakeAdapter
) -> None:
    api.delete(f"/jobs/{lease.id}")
    answer = api.put(f"/adapters/malaria?job={lease.id}", content=make_adapter(1), headers=held(lease))
    refused(answer, 409, "job_cancelled")


def test_a_publication_is_refused_if_the_gate_compared_with_another_version(
    api: TestClient, parts: Parts, lease: Lease, make_adapter: MakeAdapter
) -> None:
    parts.training.jobs.store_outcome(lease, {"gate": {"replaced": None}})
    there = api.put("/adapters/malaria", content=make_adapter(1)).json()
    put = f"/adapters/malaria?job={lease.id}"
    refused(api.put(put, content=make_adapter(2), headers=held(lease)), 409, "gate_stale")
    parts.training.jobs.store_outcome(lease, {"gate": {"replaced": there}})
    assert api.put(put, content=make_adapter(2), headers=held(lease)).status_code == 201


def test_an_incomplete_publication_is_refused(api: TestClient, lease: Lease, make_adapter: MakeAdapter) -> None:
    for target, headers in (
        (f"malaria?job={lease.id}", {}),
        ("malaria", held(lease)),
        ("malaria?alias=prod", {}),
        ("malaria?job=x", held(lease)),
    ):
        answer = api.put(f"/adapters/{target}", content=make_adapter(1), headers=headers)
        refused(answer, 422, "invalid_request")


def test_a_refused_adapter_leaves_the_job_with_its_worker(
    api: TestClient, parts: Parts, lease: Lease, make_adapter: MakeAdapter
) -> None:
    answer = api.put(f"/adapters/malaria?job={lease.id}", content=make_adapter(1)[:-10], headers=held(lease))
    assert answer.status_code == 422
    assert parts.training.jobs.beat(lease) is False
