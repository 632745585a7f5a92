"""What one server acknowledges counts for the next request to another, whose caches knew the state before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng
    from tests.service.two_servers.conftest import Pair

SUBMITTED = {"method": "norm", "epochs": 1, "size": 32}


def done(answer: Any) -> Any:
    assert answer.is_success, answer.text
    return answer


def answered(client: TestClient, reference: str, image: bytes) -> Any:
    """The digest of the adapter that answers, or the code of the refusal."""
    answer = client.post(f"/predict?adapter={reference}", content=image)
    return answer.json()["adapter"]["digest"] if answer.is_success else answer.json()["code"]


def test_uploads_promotions_rollbacks_and_deletes(pair: Pair, make_adapter: MakeAdapter, make_png: MakePng) -> None:
    here, there, name, image = pair.here.client, pair.there.client, pair.name(), make_png()
    assert answered(there, name, image) == "adapter_not_found"

    def upload(seed: int) -> str:
        return str(done(here.put(f"/adapters/{name}", content=make_adapter(seed))).json()["digest"])

    first = upload(11)
    assert answered(there, name, image) == first
    assert done(there.get(f"/adapters/{name}/file")).content == make_adapter(11)
    second = upload(12)
    assert answered(there, name, image) == second

    assert answered(there, f"{name}:prod", image) == "alias_not_found"
    done(here.put(f"/adapters/{name}/aliases/prod", json={"version": 1}))
    assert answered(there, f"{name}:prod", image) == first
    done(here.put(f"/adapters/{name}/aliases/prod", json={"version": 2}))
    assert answered(there, f"{name}:prod", image) == second
    done(there.put(f"/adapters/{name}/aliases/prod", json={"version": 1}))
    assert answered(here, f"{name}:prod", image) == first

    done(here.delete(f"/adapters/{name}"))
    assert answered(there, name, image) == "adapter_not_found"
    done(there.post(f"/adapters/{name}/undelete"))
    assert answered(here, name, image) == second


def test_rollouts(pair: Pair, make_adapter: MakeAdapter, make_png: MakePng) -> None:
    here, there, name, image = pair.here.client, pair.there.client, pair.name(), make_png()
    digests = [done(here.put(f"/adapters/{name}", content=make_adapter(seed))).json()["digest"] for seed in (13, 14)]
    done(here.put(f"/adapters/{name}/aliases/prod", json={"version": 1}))
    assert answered(there, f"{name}:prod", image) == digests[0]

    everyone = {"stable": 1, "canary": {"version": 2, "percent": 100}}
    for end, left in (("promote", 1), ("rollback", 0)):
        done(here.put(f"/adapters/{name}/aliases/prod", json=everyone))
        done(there.get(f"/adapters/{name}/rollouts/prod"))
        assert there.get(f"/adapters/{name}/rollouts/prod").json()["rollout"]["canary"]["percent"] == 100
        done(there.post(f"/adapters/{name}/rollouts/prod/{end}"))
        assert answered(here, f"{name}:prod", image) == digests[left]
        assert here.get(f"/adapters/{name}/rollouts/prod").json()["rollout"] is None


def test_tokens(pair: Pair) -> None:
    here, there = pair.here.client, pair.there.client

    def status(client: TestClient, secret: str) -> int:
        return client.get("/whoami", headers={"Authorization": f"Bearer {secret}"}).status_code

    secret = done(here.post("/tokens", json={"name": "reader", "scopes": ["predict"]})).json()["secret"]
    assert status(there, secret) == status(here, secret) == 200
    rotated = done(here.post("/tokens/reader/rotate")).json()["secret"]
    assert (status(there, secret), status(there, rotated), status(here, rotated)) == (401, 200, 200)
    done(there.delete("/tokens/reader"))
    assert (status(here, rotated), status(there, rotated)) == (401, 401)


def test_quotas_of_what_is_stored_and_of_jobs(pair: Pair, make_adapter: MakeAdapter, archive: bytes) -> None:
    here, there, name = pair.here.client, pair.there.client, pair.name()
    data, other = make_adapter(15), make_adapter(16)
    quotas = {"stored_bytes": len(data) + len(other) - 1, "queued_jobs": 1}
    wanted = {"name": f"{name}-token", "scopes": ["upload", "train"], "quotas": quotas}
    secret = done(here.post("/tokens", json=wanted)).json()["secret"]
    mine = {"Authorization": f"Bearer {secret}"}

    done(here.put(f"/adapters/{name}", content=data, headers=mine))
    refused = there.put(f"/adapters/{name}", content=other, headers=mine)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    used = {token["name"]: token["used"] for token in there.get("/tokens").json()["tokens"]}
    assert used[f"{name}-token"]["stored_bytes"] == len(data)

    done(here.put(f"/datasets/{name}", content=archive, headers={"Content-Type": "application/zip"}))
    job = {**SUBMITTED, "dataset": name, "adapter": name}
    first = done(here.post("/jobs", json=job, headers=mine)).json()["id"]
    refused = there.post("/jobs", json=job, headers=mine)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    done(there.delete(f"/jobs/{first}", headers=mine))
    done(here.post("/jobs", json=job, headers=mine))


def test_what_a_tenant_shares(pair: Pair, make_adapter: MakeAdapter) -> None:
    here, there, name = pair.here.client, pair.there.client, pair.name()
    done(here.put(f"/adapters/{name}", content=make_adapter(17)))
    assert there.get(f"/adapters/public/{name}").status_code == 404
    done(here.put(f"/adapters/{name}/shared"))
    assert there.get(f"/adapters/public/{name}").status_code == 200
    done(there.delete(f"/adapters/{name}/shared"))
    assert here.get(f"/adapters/public/{name}").status_code == 404


def test_datasets_and_their_images(pair: Pair, archive: bytes) -> None:
    here, there, name = pair.here.client, pair.there.client, pair.name()
    assert there.get(f"/datasets/{name}").status_code == 404
    done(here.put(f"/datasets/{name}", content=archive, headers={"Content-Type": "application/zip"}))
    stored = done(there.get(f"/datasets/{name}/file")).content
    assert stored == done(here.get(f"/datasets/{name}/file")).content
    edited = {"relabel": {"a/0.png": "b"}}
    done(there.patch(f"/datasets/{name}/items", json=edited))
    assert done(here.get(f"/datasets/{name}")).json()["version"] == 2
    assert done(here.get(f"/datasets/{name}/file")).content != stored
    done(there.delete(f"/datasets/{name}?purge=true"))
    assert here.get(f"/datasets/{name}/file").status_code in (404, 410)


def test_pools_their_labels_and_the_versions_made_of_them(pair: Pair, make_png: MakePng) -> None:
    here, there, name = pair.here.client, pair.there.client, pair.name()
    files = [("file", make_png(100 + number)) for number in range(8)]
    added = done(here.post(f"/datasets/{name}/unlabelled?who=reader", files=files)).json()["images"]
    for image in added:
        assert done(there.get(f"/datasets/{name}/unlabelled/{image['digest']}")).content
    labels = {image["digest"]: "ab"[number % 2] for number, image in enumerate(added)}
    done(here.post(f"/datasets/{name}/labels", json={"labels": labels, "who": "reader"}))
    assert len(done(there.get(f"/datasets/{name}/labels")).json()["labels"]) == 8
    done(there.post(f"/datasets/{name}/versions"))
    assert done(here.get(f"/datasets/{name}")).json()["images"] == 8
    done(here.delete(f"/datasets/{name}/unlabelled"))
    assert there.get(f"/datasets/{name}/unlabelled").status_code == 404


def test_files_of_jobs_and_the_end_of_a_job(pair: Pair, archive: bytes, make_adapter: MakeAdapter) -> None:
    here, there, name = pair.here.client, pair.there.client, pair.name()
    done(here.put(f"/datasets/{name}", content=archive, headers={"Content-Type": "application/zip"}))
    job = done(there.post("/jobs", json={**SUBMITTED, "dataset": name, "adapter": name, "priority": 9})).json()["id"]
    jobs = pair.here.parts.training.jobs
    lease = jobs.claim("worker", pair.here.parts.engine.backbone.fingerprint)
    assert lease is not None
    assert lease.id == job
    held, path = {"Lensmount-Lease": lease.token}, f"/jobs/{job}/files"
    for client, content in ((here, b"epoch 1"), (there, b"epoch 2")):
        done(client.put(f"{path}/checkpoint", content=content, headers=held))
        for each in (here, there):
            assert done(each.get(f"{path}/checkpoint", headers=held)).content == content
    done(here.put(f"{path}/card.md", content=b"# Card", headers=held))
    assert [file["name"] for file in there.get(path).json()["files"]] == ["card.md"]
    assert there.get(f"{path}/card.md").content == b"# Card"
    assert there.get(path).json() == here.get(path).json()

    jobs.store_outcome(lease, {"published": False, "gate": {"replaced": None}})
    done(there.put(f"/adapters/{name}?job={job}", content=make_adapter(18), headers=held))
    assert here.get(f"/jobs/{job}").json()["state"] == "succeeded"
    assert pair.here.parts.training.files.shared is not None
    assert [file.name for file in pair.here.parts.training.files.shared.all(job)] == ["card.md"]
    late = here.put(f"{path}/card.md", content=b"late", headers=held)
    assert late.json()["code"] == "lease_lost"
    assert there.get(f"{path}/card.md").content == b"# Card"
    done(there.delete(path))
    assert here.get(path).json()["files"] == []


@pytest.mark.parametrize("stamp", [None, 0], ids=["unknown", "never changes"])
def test_these_tests_notice_a_cache_that_is_not_refreshed(
    pair: Pair, make_adapter: MakeAdapter, make_png: MakePng, stamp: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a stamp every lookup reads the database; with one that never changes the first answer stays."""
    here, there, name, image = pair.here.client, pair.there.client, pair.name(), make_png()
    old = done(here.put(f"/adapters/{name}", content=make_adapter(19))).json()["digest"]
    registry = pair.there.parts.catalog._registry
    monkeypatch.setattr(registry._cached, "_stamp", lambda: stamp)
    assert answered(there, name, image) == old
    new = done(here.put(f"/adapters/{name}", content=make_adapter(20))).json()["digest"]
    assert answered(there, name, image) == (new if stamp is None else old)
