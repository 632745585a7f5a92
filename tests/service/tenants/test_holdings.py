"""What tokens hold, compared with the sizes of what was sent; every refusal's advice is followed, and then works."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Manifest, parse_adapter
from lensmount_service.access.identity import Quotas
from lensmount_service.access.tokens import TokenStore
from lensmount_service.errors import QuotaExceeded, StoredTooMuch
from lensmount_service.store.database import Database
from lensmount_service.store.registry import Registry
from lensmount_service.store.uploads import Uploads
from lensmount_service.tenants.holdings import Holdings

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, Zip
    from tests.service.tenants.conftest import Limited, MakeLimited, Server


def refusal(answer: Any) -> str:
    """The words of a refusal that no waiting helps against."""
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded"), answer.text
    assert "Retry-After" not in answer.headers
    assert "retry_after_s" not in answer.json()
    return str(answer.json()["detail"])


def test_adapters_count_with_their_sizes_and_the_advice_frees_room(
    limited: MakeLimited, make_adapter: MakeAdapter
) -> None:
    files = [make_adapter(seed) for seed in (1, 2, 3)]
    reader1 = limited(stored_bytes=len(files[0]) + len(files[1]) + 10)
    assert [reader1.ask("PUT", "/adapters/cells", content=file).status_code for file in files[:2]] == [201, 201]
    assert reader1.used() == len(files[0]) + len(files[1])
    assert reader1.ask("PUT", "/adapters/cells", content=files[1]).status_code == 200  # the same bytes cost nothing

    told = refusal(reader1.ask("PUT", "/adapters/cells", content=files[2]))

    assert f"found {len(files[0]) + len(files[1])} bytes" in told
    assert reader1.ask("GET", "/adapters/cells").json()["versions"] == [1, 2]
    reader1.follow(told)
    assert reader1.ask("PUT", "/adapters/cells", content=files[2]).status_code == 201


def test_what_can_be_undeleted_counts_until_it_is_purged(limited: MakeLimited, make_adapter: MakeAdapter) -> None:
    one, other = make_adapter(1), make_adapter(2)
    reader1 = limited(stored_bytes=len(one))
    reader1.ask("PUT", "/adapters/cells", content=one)
    assert reader1.ask("DELETE", "/adapters/cells").status_code == 204

    told = refusal(reader1.ask("PUT", "/adapters/tiles", content=other))

    assert f"{len(one)} of them were deleted and count until they are purged" in told
    reader1.follow(told)
    assert reader1.used() == 0
    assert reader1.ask("PUT", "/adapters/tiles", content=other).status_code == 201


def test_retention_gives_back_what_it_purges(server: Server, limited: MakeLimited, make_adapter: MakeAdapter) -> None:
    reader1 = limited(stored_bytes=10**9)
    reader1.ask("PUT", "/adapters/cells", content=make_adapter(1))
    reader1.ask("DELETE", "/adapters/cells")
    assert reader1.used() == len(make_adapter(1))

    Registry(server.parts.training.jobs.database).forget_deleted(0.0)

    assert reader1.used() == 0


def test_datasets_count_as_stored_and_a_refused_one_leaves_nothing(
    limited: MakeLimited, images: DrawImages, zipped: Zip
) -> None:
    one, other = zipped(images(1, a=6, b=6)), zipped(images(2, a=6, b=6))
    free = limited(stored_bytes=10**9)
    sizes = [free.ask("PUT", "/datasets/cells", content=data).json()["size_bytes"] for data in (one, other)]
    reader1 = limited(stored_bytes=max(sizes) + 100)
    assert reader1.ask("PUT", "/datasets/cells", content=one).status_code == 201
    assert reader1.used() == sizes[0]
    assert reader1.ask("PUT", "/datasets/cells", content=one).status_code == 200

    told = refusal(reader1.ask("PUT", "/datasets/cells", content=other))
    edit = reader1.ask("PATCH", "/datasets/cells/items", json={"exclude": ["a/0.png"]})

    assert "`lensmount datasets delete cells --version 1 --purge`" in refusal(edit)
    assert [d["version"] for d in reader1.ask("GET", "/datasets").json()["datasets"]] == [1]
    reader1.follow(told)
    assert reader1.ask("PUT", "/datasets/cells", content=other).status_code == 201


def chunk(reader1: Limited, name: str, data: bytes, first: int, last: int) -> Any:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return reader1.ask("PUT", f"/datasets/{name}/uploads/{digest}", content=data[first : last + 1], headers=headers)


def test_an_upload_counts_with_its_stated_size_from_its_first_chunk(
    limited: MakeLimited, images: DrawImages, zipped: Zip
) -> None:
    one, other = zipped(images(1, a=6, b=6)), zipped(images(2, a=6, b=6))
    reader1 = limited(stored_bytes=len(one) + len(other) // 2)
    assert chunk(reader1, "cells", one, 0, 99).status_code == 202
    assert reader1.used() == len(one)

    told = refusal(chunk(reader1, "tiles", other, 0, 99))

    assert f"{len(one)} of them belong to uploads that are not complete" in told
    done = chunk(reader1, "cells", one, 100, len(one) - 1)
    assert done.status_code == 201  # its own bytes are not counted twice
    assert reader1.used() == done.json()["size_bytes"]
    reader1.follow(refusal(chunk(reader1, "tiles", other, 0, 99)))
    assert chunk(reader1, "tiles", other, 0, len(other) - 1).status_code == 201


def test_images_of_pools_count_for_the_token_that_sends_them(limited: MakeLimited, images: DrawImages) -> None:
    first, second, third = images(1, c=3).values()
    reader1 = limited(stored_bytes=len(first) + len(second) + 500)
    path = "/datasets/pool/unlabelled?who=somebody"
    added = [reader1.ask("POST", path, content=data).json()["images"][0]["size_bytes"] for data in (first, second)]
    assert reader1.used() == sum(added)
    assert reader1.ask("POST", path, content=first).status_code == 201  # it is there already

    told = refusal(reader1.ask("POST", path, content=third))

    reader1.follow(told)
    assert reader1.used() == 0
    assert reader1.ask("POST", path, content=third).status_code == 201


def test_each_token_pays_for_its_own_and_a_rotated_one_for_what_it_had(
    server: Server, limited: MakeLimited, make_adapter: MakeAdapter
) -> None:
    data = make_adapter(1)
    reader1 = limited(stored_bytes=len(data))
    reader2 = limited(reader1.tenant, stored_bytes=len(data))
    assert reader1.ask("PUT", "/adapters/a", content=data).status_code == 201
    assert reader2.ask("PUT", "/adapters/b", content=data).status_code == 201  # the same file, under another name

    _, secret = TokenStore(server.parts.training.jobs.database).rotate(reader1.name, reader1.tenant)
    reader1.headers = {"Authorization": f"Bearer {secret}"}

    assert reader1.used() == len(data)
    refusal(reader1.ask("PUT", "/adapters/c", content=make_adapter(2)))
    listed = server.done("default", "GET", f"/tokens?tenant={reader1.tenant}")["tokens"]
    assert {token["name"]: token["used"] for token in listed} == {
        name: {"stored_bytes": len(data)} for name in (reader1.name, reader2.name)
    }


def test_of_many_uploads_at_once_only_those_that_fit_are_stored(
    limited: MakeLimited, make_adapter: MakeAdapter
) -> None:
    files = [make_adapter(seed) for seed in range(1, 5)]
    reader1 = limited(stored_bytes=max(map(len, files)))

    with ThreadPoolExecutor(4) as threads:
        put = [threads.submit(reader1.ask, "PUT", f"/adapters/n{n}", content=file) for n, file in enumerate(files)]
    statuses = sorted(each.result().status_code for each in put)

    assert statuses == [201, 429, 429, 429]


@pytest.fixture
def manifest(make_adapter: MakeAdapter) -> Manifest:
    return parse_adapter(make_adapter(1)).manifest


def test_servers_of_one_database_never_let_two_uploads_pass_the_last_bytes(
    reopen: Callable[[], Database], manifest: Manifest, tmp_path: Path
) -> None:
    databases = [reopen() for _ in range(3)]
    registries = [
        Registry(each, Holdings(each, Uploads(tmp_path / f"uploads{n}")).charge) for n, each in enumerate(databases)
    ]
    TokenStore(databases[0]).create("reader1", ["upload"], "lab", quotas=Quotas(stored_bytes=1050))
    passed: list[str] = []
    start = threading.Barrier(len(registries))

    def upload(registry: Registry, number: int) -> None:
        start.wait()
        for turn in range(8):
            try:
                registry.publish(f"lab/n{number}-{turn}", f"sha256:{number:032x}{turn:032x}", 100, manifest, "reader1")
                passed.append(f"{number}-{turn}")
            except StoredTooMuch:
                continue

    with ThreadPoolExecutor(len(registries)) as threads:
        for work in [threads.submit(upload, *pair) for pair in zip(registries, range(3), strict=True)]:
            work.result()

    assert len(passed) == 10
    held = Holdings(reopen(), Uploads(tmp_path)).used("lab", "reader1", Quotas(stored_bytes=1050))  # as after a restart
    assert held == {"stored_bytes": 1000.0}


def test_a_restart_forgets_nothing(make_parts: MakeParts, make_adapter: MakeAdapter) -> None:
    data = make_adapter(1)
    with make_parts() as parts, TestClient(parts.app) as client:
        _, secret = TokenStore(parts.training.jobs.database).create(
            "reader1", ["upload"], "lab", quotas=Quotas(stored_bytes=len(data))
        )
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.put("/adapters/a", content=data, headers=headers).status_code == 201
    with make_parts() as parts, TestClient(parts.app) as client:
        refusal(client.put("/adapters/b", content=make_adapter(2), headers=headers))


JOB = {"dataset": "cells", "adapter": "task"}


def test_jobs_that_wait_are_limited_until_one_is_taken_or_cancelled(limited: MakeLimited, archive: bytes) -> None:
    reader1 = limited(queued_jobs=2)
    assert reader1.ask("PUT", "/datasets/cells", content=archive).status_code == 201
    once = {"Idempotency-Key": "once"}
    jobs = [
        reader1.ask("POST", "/jobs", json=JOB, headers=once).json()["id"],
        reader1.ask("POST", "/jobs", json=JOB).json()["id"],
    ]
    assert reader1.used("queued_jobs") == 2

    refused = reader1.ask("POST", "/jobs", json=JOB)

    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert int(refused.headers["Retry-After"]) == refused.json()["retry_after_s"] == 60
    assert "found 2 jobs of this token that wait" in refused.json()["detail"]
    assert reader1.ask("POST", "/jobs", json=JOB, headers=once).json()["id"] == jobs[0]  # it is known
    assert reader1.ask("DELETE", f"/jobs/{jobs[0]}").status_code == 202  # the advice
    jobs.append(reader1.ask("POST", "/jobs", json=JOB).json()["id"])
    assert reader1.ask("POST", f"/jobs/{jobs[0]}/retry").json()["code"] == "quota_exceeded"
    for job in jobs[1:]:
        reader1.ask("DELETE", f"/jobs/{job}")
    assert reader1.ask("POST", f"/jobs/{jobs[0]}/retry").status_code == 202
    assert reader1.used("queued_jobs") == 1
    reader1.ask("DELETE", f"/jobs/{jobs[0]}")


def test_who_retries_a_job_of_another_pays_for_it(limited: MakeLimited, archive: bytes) -> None:
    reader1 = limited(queued_jobs=1)
    reader2 = limited(reader1.tenant, queued_jobs=1)
    reader1.ask("PUT", "/datasets/cells", content=archive)
    first = reader1.ask("POST", "/jobs", json=JOB).json()["id"]
    reader1.ask("DELETE", f"/jobs/{first}")
    second = reader1.ask("POST", "/jobs", json=JOB).json()["id"]

    assert reader2.ask("POST", f"/jobs/{first}/retry").status_code == 202

    assert (reader1.used("queued_jobs"), reader2.used("queued_jobs")) == (1, 1)
    assert reader2.ask("POST", "/jobs", json=JOB).json()["code"] == "quota_exceeded"
    for job in (first, second):
        reader1.ask("DELETE", f"/jobs/{job}")


def test_a_job_publishes_only_what_its_submitter_may_store(
    server: Server, limited: MakeLimited, archive: bytes, make_adapter: MakeAdapter
) -> None:
    old, new = make_adapter(1), make_adapter(2)
    reader1 = limited(stored_bytes=10**9)
    size = reader1.ask("PUT", "/datasets/cells", content=archive).json()["size_bytes"]
    reader1.ask("DELETE", "/datasets/cells?purge=true")
    reader2 = limited(reader1.tenant, stored_bytes=size + len(old) + 10)
    for path, data in (("/datasets/cells", archive), ("/adapters/old", old)):
        assert reader2.ask("PUT", path, content=data).status_code == 201
    job = reader2.ask("POST", "/jobs", json=JOB | {"force": True}).json()["id"]
    jobs = server.parts.training.jobs
    while (lease := jobs.claim("w", server.parts.engine.backbone.fingerprint)) is not None and lease.id != job:
        jobs.finish(lease, "failed", None, ("skipped", "skipped"))
    assert lease is not None
    publish = {"content": new, "headers": {"Lensmount-Lease": lease.token}}

    told = refusal(server.ask("default", "PUT", f"/adapters/task?job={job}", **publish))

    assert reader2.ask("GET", "/adapters/task").status_code == 404
    reader2.follow(told)
    assert server.ask("default", "PUT", f"/adapters/task?job={job}", **publish).status_code == 201
    assert reader2.ask("GET", "/adapters/task").json()["owner"] == reader2.name


def test_who_has_nothing_left_submits_no_job(limited: MakeLimited, archive: bytes) -> None:
    free = limited(stored_bytes=10**9)
    size = free.ask("PUT", "/datasets/cells", content=archive).json()["size_bytes"]
    reader1 = limited(stored_bytes=size)
    reader1.ask("PUT", "/datasets/cells", content=archive)

    refusal(reader1.ask("POST", "/jobs", json=JOB))


def test_a_limit_costs_a_token_without_one_nothing(reopen: Callable[[], Database], tmp_path: Path) -> None:
    holdings = Holdings(database := reopen(), Uploads(tmp_path))
    TokenStore(database).create("reader1", ["train"], "lab", quotas=Quotas(queued_jobs=1))

    assert holdings.used("lab", "reader1", Quotas()) == {}
    with database.read() as connection:
        holdings.charge(connection, "lab/x", "nobody", 2**60)
        holdings.charge(connection, "x", None, 2**60)
        holdings.charge_job(connection, "lab", "reader1")
        holdings.charge_job(connection, "other", "reader1")
    assert issubclass(StoredTooMuch, QuotaExceeded)


def test_files_of_jobs_count_until_they_are_deleted(
    server: Server, limited: MakeLimited, archive: bytes, make_adapter: MakeAdapter
) -> None:
    adapter, size = make_adapter(1), len(archive) + 20_000  # so the files are what frees the most
    reader1 = limited(stored_bytes=2 * size)
    reader1.ask("PUT", "/datasets/cells", content=archive)
    before = reader1.used()
    job = reader1.ask("POST", "/jobs", json=JOB).json()["id"]
    lease = server.parts.training.jobs.claim("w", server.parts.engine.backbone.fingerprint)
    assert lease is not None
    send = {"headers": {"Lensmount-Lease": lease.token}, "content": b"x" * size}
    for _ in range(2):  # the second one replaces the first
        assert reader1.ask("PUT", f"/jobs/{job}/files/card.md", **send).status_code == 204
        assert reader1.used() == before + size
    refusal(reader1.ask("PUT", f"/jobs/{job}/files/log.txt", **send))
    assert reader1.ask("DELETE", f"/jobs/{job}/files").json()["code"] == "job_not_finished"

    server.parts.training.jobs.finish(lease, "failed", error=("training_failed", "no"))
    told = refusal(reader1.ask("PUT", "/adapters/cells", content=adapter))

    assert f"`lensmount jobs delete-files {job}` frees {size} of them" in told
    reader1.follow(told)
    assert reader1.used() == before
    assert reader1.ask("PUT", "/adapters/cells", content=adapter).status_code == 201
