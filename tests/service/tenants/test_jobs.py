"""Each tenant has its own jobs. A worker acts for the tenant whose job it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lensmount_service.jobs.records import Lease

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, Zip
    from tests.service.tenants.conftest import Server


@pytest.fixture(scope="module", autouse=True)
def _sent(server: Server, archive: bytes) -> None:
    for who in ("lab1", "lab2", "default"):
        server.done(who, "PUT", "/datasets/slides", content=archive)


def submitted(server: Server, who: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    return server.done(
        who, "POST", "/jobs", json={"dataset": "slides", "adapter": "cells"} | fields, headers=headers or {}
    )


def claimed(server: Server, job_id: str) -> Lease:
    """The lease of a job, after all jobs before it were given up."""
    jobs = server.parts.training.jobs
    while (lease := jobs.claim("w", server.parts.engine.backbone.fingerprint)) is not None:
        if lease.id == job_id:
            return lease
        jobs.finish(lease, "failed", None, ("skipped", "skipped"))
    raise LookupError(job_id)


def test_an_idempotency_key_is_known_to_its_own_tenant_only(server: Server) -> None:
    key = {"Idempotency-Key": "once"}
    jobs = {who: submitted(server, who, key)["id"] for who in ("lab1", "lab2", "default")}

    assert len(set(jobs.values())) == 3
    assert {who: submitted(server, who, key)["id"] for who in jobs} == jobs
    assert submitted(server, "default", {"Idempotency-Key": "lab1/once"})["id"] not in jobs.values()


def test_a_worker_sees_what_the_tenant_of_its_job_sees(server: Server, make_adapter: MakeAdapter) -> None:
    server.done("lab1", "PUT", "/adapters/cells", content=make_adapter(1))
    job = submitted(server, "lab1", alias="prod", force=True)
    lease = claimed(server, job["id"])
    headers = {"Lensmount-Lease": lease.token}
    assert (lease.job.request.adapter, lease.job.request.dataset.name) == ("cells", "slides")  # names, not keys

    shown = server.done("default", "GET", "/adapters/cells", headers=headers)
    assert (shown["name"], shown["tenant"]) == ("cells", "lab1")
    digest = job["dataset"]["digest"]
    assert server.ask("default", "GET", f"/datasets/slides/file?digest={digest}", headers=headers).status_code == 200
    server.done("default", "PUT", f"/jobs/{job['id']}/files/card.md", content=b"# Cells", headers=headers)
    path = f"/adapters/cells?job={job['id']}&alias=prod"
    made = server.done("default", "PUT", path, content=make_adapter(2), headers=headers)
    again = server.done("default", "PUT", path, content=make_adapter(2), headers=headers)  # it never got the answer

    assert (made["name"], made["version"], again) == ("cells", 2, made)
    assert server.done("lab1", "GET", f"/jobs/{job['id']}")["result"]["adapter"]["name"] == "cells"
    assert server.done("lab1", "GET", "/adapters/cells")["aliases"] == {"prod": 2}
    assert server.done("lab1", "GET", "/adapters/cells")["owner"] == "lab1-boss"  # who submitted the job
    assert server.ask("lab1", "GET", f"/jobs/{job['id']}/files/card.md").text == "# Cells"
    assert server.ask("default", "GET", "/adapters/cells").status_code == 404


def test_a_lease_gives_a_tenant_s_token_nothing(server: Server) -> None:
    job = submitted(server, "lab1")
    headers = {"Lensmount-Lease": claimed(server, job["id"]).token}

    for who in ("lab2", "default:train"):
        for path in (f"/jobs/{job['id']}", f"/jobs/{job['id']}/files"):
            assert server.ask(who, "GET", path, headers=headers).status_code == 404, who


def test_a_job_on_a_dataset_that_is_shared_no_longer_goes_on(server: Server, images: DrawImages, zipped: Zip) -> None:
    server.done("lab1", "PUT", "/datasets/brief", content=zipped(images(seed=4, a=6, b=6)))
    server.done("lab1", "PUT", "/datasets/brief/shared")
    job = submitted(server, "lab2", dataset="public/brief")
    lease = claimed(server, job["id"])
    server.done("lab1", "DELETE", "/datasets/brief/shared")

    path = f"/datasets/public/brief/file?digest={job['dataset']['digest']}"

    assert server.ask("default", "GET", path, headers={"Lensmount-Lease": lease.token}).status_code == 200
    assert server.ask("lab2", "GET", path).status_code == 404


def test_a_job_of_no_administrator_cannot_move_a_protected_alias(server: Server, make_adapter: MakeAdapter) -> None:
    server.done("lab2", "PUT", "/adapters/guarded", content=make_adapter(1))
    server.done("lab2", "PUT", "/adapters/guarded/aliases/prod", json={"version": 1, "protected": True})
    for who, status in (("lab2:train", 403), ("lab2", 201)):
        job = submitted(server, who, adapter="guarded", alias="prod", force=True)
        headers = {"Lensmount-Lease": claimed(server, job["id"]).token}
        path = f"/adapters/guarded?job={job['id']}&alias=prod"
        answer = server.ask("default", "PUT", path, content=make_adapter(2), headers=headers)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert answer.json()["code"] == "alias_protected"
