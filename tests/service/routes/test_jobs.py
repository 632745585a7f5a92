from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone
from lensmount_adapters.training.config import TrainingConfig
from lensmount_service.build import Parts, open_parts
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.routes.jobs import POLL_S
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from httpx2 import Response
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

HEADERS = {"Content-Type": "application/zip"}


@pytest.fixture
def archive(make_png: MakePng) -> bytes:
    """The bytes of a zip file of class folders."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    return buffer.getvalue()


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts() as parts:
        yield parts


@pytest.fixture
def client(parts: Parts, archive: bytes) -> Iterator[TestClient]:
    """The app with the dataset `cells`."""
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        assert client.put("/datasets/cells", content=archive, headers=HEADERS).status_code == 201
        yield client


@pytest.fixture(scope="module")
def refusing(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One app for all tests of refused jobs."""
    settings = Settings(state=tmp_path_factory.mktemp("refusing"), zoo=False, threads=1)
    with open_parts(settings, backbone) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def lease(parts: Parts, client: TestClient) -> Lease:
    """The lease of a claimed job for the adapter `malaria`."""
    client.post("/jobs", json={"dataset": "cells", "adapter": "malaria"})
    return claim(parts)


def claim(parts: Parts) -> Lease:
    lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    return lease


def submit(client: TestClient, **fields: Any) -> Any:
    answer = client.post("/jobs", json={"dataset": "cells", "adapter": "malaria", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def refused(answer: Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def held(lease: Lease) -> dict[str, str]:
    return {"Lensmount-Lease": lease.token}


def stream(client: TestClient, job_id: str, **headers: str) -> list[tuple[str | None, str | None, Any]]:
    """The events of a stream until it closes: (event, id, data)."""
    events = []
    for block in client.get(f"/jobs/{job_id}/events", headers=headers).text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        events.append((fields.get("event"), fields.get("id"), json.loads(fields["data"])))
    return events


def test_a_job_is_submitted_with_the_defaults_of_training_and_found_again(client: TestClient) -> None:
    answer = client.post("/jobs", json={"dataset": "cells@1", "adapter": "malaria", "alias": "prod", "epochs": 3})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["adapter"], job["alias"], job["attempt"]) == ("queued", "malaria", "prod", 0)
    assert (job["dataset"]["name"], job["dataset"]["version"]) == ("cells", 1)
    assert job["hyper_parameters"]["epochs"] == 3
    assert job["hyper_parameters"]["learning_rate"] == 4e-3
    assert job["created_at"].endswith("Z")
    assert (job["history"], job["progress"], job["result"], job["error"]) == ([], None, None, None)
    assert client.get(f"/jobs/{job['id']}").json() == job
    assert client.get("/jobs").json() == {"jobs": [job]}


def test_the_worker_claims_the_submitted_options_of_volumes_and_precision(client: TestClient, parts: Parts) -> None:
    options = {"depth": 24, "depth_resize": "crop", "window": [-160, 240], "init_b_std": 0.5, "warmup": 0}
    job = submit(client, **options, precision="bf16", file_dtype="fp32")
    lease = claim(parts)
    assert lease.job.request.hyper_parameters == job["hyper_parameters"]
    assert {name: job["hyper_parameters"][name] for name in options} == options
    run = TrainingConfig(data=Path("d"), name="malaria", out=Path("o"), **lease.job.request.hyper_parameters)
    assert (run.depth, run.depth_resize, run.window, run.init_b_std) == (24, "crop", (-160, 240), 0.5)
    assert (run.precision, run.file_dtype) == ("bfloat16", "float32")


WRONG: dict[str, dict[str, Any]] = {
    "learning rate 0": {"learning_rate": 0},
    "a negative learning rate": {"learning_rate": -1},
    "a learning rate of 1e9": {"learning_rate": 1e9},
    "epochs 0": {"epochs": 0},
    "epochs -1": {"epochs": -1},
    "a billion epochs": {"epochs": 10**9},
    "epochs true": {"epochs": True},
    "epochs as text": {"epochs": "3"},
    "one and a half epochs": {"epochs": 1.5},
    "batch 0": {"batch_size": 0},
    "a batch of a million": {"batch_size": 10**6},
    "rank 0": {"rank": 0},
    "rank a million": {"rank": 10**6},
    "images of 100,000 pixels": {"size": 10**5},
    "seed 2^64": {"seed": 2**64},
    "seed as text": {"seed": "zero"},
    "a seed of five thousand digits": {"seed": 10**4000},
    "an unknown resize": {"resize": "zoom"},
    "an unknown field": {"optimizer": "sgd"},
    "a callable path": {"__class__": "os.system"},
    "a label that is a list": {"method": ["lora"]},
    "fractions over a half": {"test_fraction": 0.9},
    "a fraction of 1": {"validation_fraction": 0, "test_fraction": 1},
    "images of 15 pixels": {"size": 15},
    "a window of one number": {"window": [1]},
    "a window from high to low": {"window": [240, -160]},
    "a window that is text": {"window": "-160 240"},
    "513 slices": {"depth": 513},
    "training in float16": {"precision": "float16"},
    "a file of integers": {"file_dtype": "int8"},
    "prompts of another shape": {"head": "text", "prompts": {"templates": [], "classes": {}}},
    "the server's own backbone": {"backbone": "resnet34"},
    "margin 2": {"margin": 2},
    "priority 101": {"priority": 101},
    "eleven attempts": {"max_attempts": 11},
    "A drawn with a spread of 0": {"init_std": 0},
    "three orientations": {"orientations": 3},
    "an invalid regex": {"targets": "("},
    "a regex with NUL": {"group_regex": "a\u0000"},
    "a description with NUL": {"description": "a\u0000b"},
    "a lone surrogate": {"license": "\ud800"},
    "a long description": {"description": "x" * 4001},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_hyper_parameter_out_of_its_range_is_refused_before_anything_is_queued(
    refusing: TestClient, case: str
) -> None:
    body = json.dumps({"dataset": "cells", "adapter": "malaria", **WRONG[case]})
    answer = refusing.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 422, "invalid_request")
    assert refusing.get("/jobs").json() == {"jobs": []}


@pytest.mark.parametrize("body", ['{"rank": NaN}', '{"learning_rate": Infinity}', "[]", '"job"', "null", "{}"])
def test_a_body_of_another_shape_is_refused(refusing: TestClient, body: str) -> None:
    refused(refusing.post("/jobs", content=body, headers={"Content-Type": "application/json"}), 422, "invalid_request")


@pytest.mark.parametrize("body", ["{", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}", b"\xff\xfe"])
def test_a_body_that_cannot_be_read_is_refused(refusing: TestClient, body: str | bytes) -> None:
    refused(refusing.post("/jobs", content=body, headers={"Content-Type": "application/json"}), 400, "bad_request")


@pytest.mark.parametrize(
    "fields",
    [{"method": "magic"}, {"augment": "wild"}, {"method": "lora+lora-tucker"}, {"head": "mlp"}, {"head": "text"}],
)
def test_options_that_contradict_each_other_are_refused(client: TestClient, fields: dict[str, Any]) -> None:
    answer = client.post("/jobs", json={"dataset": "cells", "adapter": "malaria", **fields})
    refused(answer, 422, "invalid_request")


@pytest.mark.parametrize("field", ["adapter", "alias", "dataset"])
@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a b", "\u00e9"])
def test_an_invalid_name_is_refused(refusing: TestClient, field: str, name: str) -> None:
    answer = refusing.post("/jobs", json={"dataset": "cells", "adapter": "malaria", field: name})
    assert answer.status_code == 422
    assert answer.json()["code"] in ("invalid_name", "invalid_reference")


def test_an_unknown_dataset_is_refused(client: TestClient, archive: bytes, make_png: MakePng) -> None:
    refused(client.post("/jobs", json={"dataset": "tiles", "adapter": "malaria"}), 404, "dataset_not_found")
    refused(client.post("/jobs", json={"dataset": "cells@2", "adapter": "malaria"}), 404, "dataset_not_found")
    refused(client.post("/jobs", json={"dataset": "cells@0", "adapter": "malaria"}), 422, "invalid_reference")
    assert client.delete("/datasets/cells").status_code == 204
    refused(client.post("/jobs", json={"dataset": "cells", "adapter": "malaria"}), 404, "dataset_not_found")


def test_a_dataset_that_a_job_waits_for_cannot_be_deleted(client: TestClient) -> None:
    job = submit(client)
    refused(client.delete("/datasets/cells"), 409, "dataset_in_use")
    client.delete(f"/jobs/{job['id']}")
    assert client.delete("/datasets/cells").status_code == 204


def test_the_same_idempotency_key_gives_the_same_job_and_with_another_body_an_error(client: TestClient) -> None:
    def ask(**fields: Any) -> Response:
        body = {"dataset": "cells", "adapter": "malaria", **fields}
        return client.post("/jobs", json=body, headers={"Idempotency-Key": "k-1"})

    first, second = ask(), ask()
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    refused(ask(epochs=5), 422, "idempotency_key_reuse")
    assert ask(rank=8).status_code == 200  # the default, said aloud


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "caf\u00e9".encode("latin-1")])
def test_an_invalid_idempotency_key_is_refused(refusing: TestClient, key: str | bytes) -> None:
    answer = refusing.post(
        "/jobs", json={"dataset": "cells", "adapter": "m"}, headers=cast(Any, {"Idempotency-Key": key})
    )
    refused(answer, 422, "invalid_request")


def test_one_queued_job_too_many_is_refused_with_a_time_to_try_again(make_parts: MakeParts, archive: bytes) -> None:
    with make_parts(max_queued_jobs=1) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/datasets/cells", content=archive, headers=HEADERS)
        submit(client)
        answer = client.post("/jobs", json={"dataset": "cells", "adapter": "malaria"})
        refused(answer, 429, "jobs_full")
        assert int(answer.headers["Retry-After"]) > 0


def test_cancelling_and_retrying_depend_on_the_state(client: TestClient, parts: Parts) -> None:
    job = submit(client)
    path = f"/jobs/{job['id']}"
    refused(client.post(f"{path}/retry"), 409, "job_not_finished")
    assert (client.delete(path).status_code, client.delete(path).status_code) == (202, 202)
    assert client.get(path).json()["state"] == "cancelled"
    assert client.post(f"{path}/retry").json()["state"] == "queued"

    lease = claim(parts)
    running = client.delete(path)
    assert (running.status_code, running.json()["state"], running.json()["cancel_requested"]) == (202, "running", True)
    assert client.delete(path).json() == running.json()
    parts.training.jobs.finish(lease, "failed", None, ("training_failed", "the loss is nan"))
    refused(client.delete(path), 409, "job_finished")
    assert client.get(path).json()["error"] == {"code": "training_failed", "message": "the loss is nan"}


@pytest.mark.parametrize("ask", ["get", "delete"])
def test_an_unknown_job_is_not_found(client: TestClient, ask: str) -> None:
    refused(client.request(ask, f"/jobs/{'0' * 32}"), 404, "job_not_found")
    refused(client.request(ask, "/jobs/nothing"), 422, "invalid_request")
    for path in ("events", "log", "files", "files/card.md"):
        refused(client.get(f"/jobs/{'0' * 32}/{path}"), 404, "job_not_found")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "state=lost", "before=x"])
def test_an_impossible_page_is_refused(refusing: TestClient, query: str) -> None:
    refused(refusing.get(f"/jobs?{query}"), 422, "invalid_request")


def test_jobs_come_newest_first_in_pages(client: TestClient) -> None:
    ids = [submit(client)["id"] for _ in range(3)][::-1]
    assert [job["id"] for job in client.get("/jobs?limit=2").json()["jobs"]] == ids[:2]
    assert [job["id"] for job in client.get(f"/jobs?before={ids[1]}").json()["jobs"]] == ids[2:]
    client.delete(f"/jobs/{ids[0]}")
    assert [job["id"] for job in client.get("/jobs?state=queued").json()["jobs"]] == ids[1:]


def test_a_stream_has_every_event_and_ends_with_the_job(client: TestClient, parts: Parts, lease: Lease) -> None:
    jobs = parts.training.jobs
    jobs.add_event(lease, "epoch", {"epoch": 1, "loss": 0.5})
    jobs.add_event(lease, "log", {"level": "info", "message": "hello"})
    jobs.finish(lease, "failed", None, ("training_failed", "no"))

    told = stream(client, lease.id)
    assert [(event, number) for event, number, _ in told] == [
        ("state", "1"),
        ("state", "2"),
        ("epoch", "3"),
        ("log", "4"),
        ("state", "5"),
        ("end", None),
    ]
    assert told[2][2] == {"epoch": 1, "loss": 0.5}
    assert told[3][2]["message"] == "hello"
    assert told[4][2]["error"] == {"code": "training_failed", "message": "no"}
    assert told[5][2] == {"state": "failed"}


def test_a_stream_resumes_where_the_client_lost_it(client: TestClient, parts: Parts, lease: Lease) -> None:
    parts.training.jobs.finish(lease, "succeeded")
    assert [number for _, number, _ in stream(client, lease.id, **{"Last-Event-ID": "2"})] == ["3", None]
    assert [event for event, _, _ in stream(client, lease.id, **{"Last-Event-ID": "3"})] == ["end"]
    for wrong in ("x", "-1", str(2**31)):
        answer = client.get(f"/jobs/{lease.id}/events", headers={"Last-Event-ID": wrong})
        refused(answer, 422, "invalid_request")


def test_a_stream_follows_a_job_that_runs(client: TestClient, parts: Parts, lease: Lease) -> None:
    jobs = parts.training.jobs

    def work() -> None:
        for step in (1, 2):
            jobs.beat(lease, {"epoch": 1, "step": step})
            time.sleep(4 * POLL_S)
        jobs.finish(lease, "succeeded")

    worker = threading.Thread(target=work)
    worker.start()
    told = stream(client, lease.id)
    worker.join()
    assert [data["step"] for event, _, data in told if event == "progress"] == [1, 2]
    assert [event for event, _, _ in told][-2:] == ["state", "end"]


def test_a_stream_ends_with_the_server(client: TestClient, parts: Parts, lease: Lease) -> None:
    timer = threading.Timer(0.3, parts.training.stopping.set)
    timer.start()
    assert [event for event, _, _ in stream(client, lease.id)] == ["state", "state"]
    timer.join()


def test_the_log_is_text_for_people(client: TestClient, parts: Parts, lease: Lease) -> None:
    jobs = parts.training.jobs
    jobs.add_event(lease, "epoch", {"epoch": 1, "loss": 0.5, "validation_balanced_accuracy": 0.75, "seconds": 1.25})
    jobs.add_event(lease, "log", {"level": "warning", "message": "two images are alike"})
    jobs.finish(lease, "failed", None, ("training_failed", "no"))
    answer = client.get(f"/jobs/{lease.id}/log")
    assert answer.headers["content-type"].startswith("text/plain")
    assert [line.split(" ", 1)[1] for line in answer.text.splitlines()] == [
        "queued",
        "running, attempt 1",
        "epoch 1: loss 0.5000, validation balanced accuracy 0.7500 (1.2 s)",
        "warning: two images are alike",
        "failed, attempt 1: no (training_failed)",
    ]


def test_the_history_is_part_of_the_job(client: TestClient, parts: Parts, lease: Lease) -> None:
    parts.training.jobs.add_event(lease, "epoch", {"epoch": 1, "loss": 0.5})
    assert client.get(f"/jobs/{lease.id}").json()["history"] == [{"epoch": 1, "loss": 0.5}]
    assert client.get("/jobs").json()["jobs"][0]["history"] == [{"epoch": 1, "loss": 0.5}]


# For workers


def test_a_worker_uploads_files_and_all_but_the_checkpoint_are_public(client: TestClient, lease: Lease) -> None:
    path = f"/jobs/{lease.id}/files"
    for name in ("card.md", "report.html", "checkpoint"):
        assert client.put(f"{path}/{name}", content=b"<p>hello", headers=held(lease)).status_code == 204
    digest = "sha256:dfb43d8c7a4bba9a2ed03d9a81c36b9cbad80ae2a91c0f2a2b0d0f8e0c8a3b4c"
    listed = client.get(path).json()["files"]
    assert [(file["name"], file["size_bytes"]) for file in listed] == [("card.md", 8), ("report.html", 8)]
    assert len(listed[0]["digest"]) == len(digest)
    report = client.get(f"{path}/report.html")
    assert (report.content, report.headers["content-type"]) == (b"<p>hello", "text/html; charset=utf-8")
    assert "sandbox" in report.headers["content-security-policy"]
    refused(client.get(f"{path}/checkpoint"), 404, "file_not_found")
    assert client.get(f"{path}/checkpoint", headers=held(lease)).content == b"<p>hello"
    refused(client.get(f"{path}/metrics.json"), 404, "file_not_found")


def test_a_worker_without_the_lease_stores_nothing(
    client: TestClient, parts: Parts, lease: Lease, tmp_path: Path
) -> None:
    path = f"/jobs/{lease.id}/files/card.md"
    refused(client.put(path, content=b"x"), 422, "invalid_request")
    refused(client.put(path, content=b"x", headers={"Lensmount-Lease": "0" * 32}), 409, "lease_lost")
    for name in ("secrets.txt", "..", "%2e%2e%2fregistry.sqlite3", ".tmp"):
        answer = client.put(f"/jobs/{lease.id}/files/{name}", content=b"x", headers=held(lease))
        assert answer.status_code in (404, 405)
    parts.training.jobs.give_back(lease)
    refused(client.put(path, content=b"x", headers=held(lease)), 409, "lease_lost")
    assert list((tmp_path / "jobs").rglob("*.*")) == []


def test_a_file_over_the_limit_stores_nothing(make_parts: MakeParts, archive: bytes, tmp_path: Path) -> None:
    with make_parts(max_job_file_bytes=1024) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/datasets/cells", content=archive, headers=HEADERS)
        submit(client)
        lease = claim(parts)
        answer = client.put(f"/jobs/{lease.id}/files/card.md", content=b"x" * 1025, headers=held(lease))
        refused(answer, 413, "body_too_large")
        assert list((tmp_path / "jobs").rglob("*.*")) == []


def test_a_publication_creates_the_version_sets_the_alias_and_ends_the_job(
    client: TestClient, parts: Parts, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    job = submit(client, adapter="malaria", alias="prod")
    lease = claim(parts)
    client.put(f"/jobs/{lease.id}/files/checkpoint", content=b"x", headers=held(lease))
    parts.training.jobs.store_outcome(lease, {"published": False, "gate": {"replaced": None}})
    put = f"/adapters/malaria?job={lease.id}&alias=prod"

    first = client.put(put, content=make_adapter(1), headers=held(lease))
    assert (first.status_code, first.json()["version"]) == (201, 1)
    again = client.put(put, content=make_adapter(1), headers=held(lease))  # the first response was lost
    assert (again.status_code, again.json()) == (200, first.json())
    ended = client.get(f"/jobs/{job['id']}").json()
    assert (ended["state"], ended["result"]["published"], ended["result"]["adapter"]) == (
        "succeeded",
        True,
        first.json(),
    )
    assert client.get("/adapters/malaria").json()["aliases"] == {"prod": 1}
    assert not (tmp_path / "jobs" / lease.id / "checkpoint").exists()


def test_a_publication_by_a_worker_that_lost_its_lease_is_refused(
    client: TestClient, parts: Parts, lease: Lease, make_adapter: MakeAdapter
) -> None:
    parts.training.jobs.give_back(lease)
    heir = claim(parts)
    for token in (lease.token, "0" * 32):
        answer = client.put(
            f"/adapters/malaria?job={lease.id}", content=make_adapter(1), headers={"Lensmount-Lease": token}
        )
        refused(answer, 409, "lease_lost")
    assert client.get("/adapters").json() == {"adapters": []}
    answer = client.put(f"/adapters/malaria?job={heir.id}", content=make_adapter(2), headers=held(heir))
    assert answer.status_code == 201
    answer = client.put(f"/adapters/malaria?job={lease.id}", content=make_adapter(1), headers=held(lease))
    refused(answer, 409, "lease_lost")
    assert client.get("/adapters/malaria").json()["versions"] == [1]


def test_a_publication_under_another_name_or_alias_is_refused(
    client: TestClient, lease: Lease, make_adapter: MakeAdapter
) -> None:
    for target in (f"tiles?job={lease.id}", f"malaria?job={lease.id}&alias=prod"):
        answer = client.put(f"/adapters/{target}", content=make_adapter(1), headers=held(lease))
        refused(answer, 422, "invalid_request")
    assert client.get("/adapters").json() == {"adapters": []}


def test_a_publication_of_a_job_to_be_cancelled_is_refused(
    client: TestClient, lease: Lease, make_adapter: MakeAdapter
) -> None:
    client.delete(f"/jobs/{lease.id}")
    answer = client.put(f"/adapters/malaria?job={lease.id}", content=make_adapter(1), headers=held(lease))
    refused(answer, 409, "job_cancelled")


def test_a_publication_is_refused_if_the_gate_compared_with_another_version(
    client: TestClient, parts: Parts, lease: Lease, make_adapter: MakeAdapter
) -> None:
    parts.training.jobs.store_outcome(lease, {"gate": {"replaced": None}})
    there = client.put("/adapters/malaria", content=make_adapter(1)).json()
    put = f"/adapters/malaria?job={lease.id}"
    refused(client.put(put, content=make_adapter(2), headers=held(lease)), 409, "gate_stale")
    parts.training.jobs.store_outcome(lease, {"gate": {"replaced": there}})
    assert client.put(put, content=make_adapter(2), headers=held(lease)).status_code == 201


def test_an_incomplete_publication_is_refused(client: TestClient, lease: Lease, make_adapter: MakeAdapter) -> None:
    for target, headers in (
        (f"malaria?job={lease.id}", {}),
        ("malaria", held(lease)),
        ("malaria?alias=prod", {}),
        ("malaria?job=x", held(lease)),
    ):
        answer = client.put(f"/adapters/{target}", content=make_adapter(1), headers=headers)
        refused(answer, 422, "invalid_request")


def test_a_refused_adapter_leaves_the_job_with_its_worker(
    client: TestClient, parts: Parts, lease: Lease, make_adapter: MakeAdapter
) -> None:
    answer = client.put(f"/adapters/malaria?job={lease.id}", content=make_adapter(1)[:-10], headers=held(lease))
    assert answer.status_code == 422
    assert parts.training.jobs.beat(lease) is False


def test_a_queued_job_reports_how_many_workers_could_claim_it(client: TestClient, parts: Parts) -> None:
    job = submit(client)
    assert job["workers"] == 0
    workers, fingerprint = WorkerTable(parts.training.jobs.database), parts.engine.backbone.fingerprint
    workers.note("w", fingerprint)
    assert client.get(f"/jobs/{job['id']}").json()["workers"] == 1
    claim(parts)
    assert client.get(f"/jobs/{job['id']}").json()["workers"] is None
    assert submit(client)["workers"] == 1
