"""Jobs over HTTP, as clients ask for them: submit, read, list, follow, cancel and retry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.data.split import split_folder
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.training.config import TrainingConfig
from lensmount_service.build import Parts
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.routes import jobs as routes

if TYPE_CHECKING:
    from httpx2 import Response
    from tests.service.conftest import MakeParts, MakePng
    from tests.service.routes.conftest import Claim, Submit

HEADERS = {"Content-Type": "application/zip"}


@pytest.fixture(scope="module")
def refusing(make_shared_parts: MakeParts) -> Iterator[TestClient]:
    """One app for all tests of refused jobs."""
    with make_shared_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


def refused(answer: Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def stream(client: TestClient, job_id: str, **headers: str) -> list[tuple[str | None, str | None, Any]]:
    """The events of a stream until it closes: (event, id, data)."""
    events = []
    for block in client.get(f"/jobs/{job_id}/events", headers=headers).text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        events.append((fields.get("event"), fields.get("id"), json.loads(fields["data"])))
    return events


def test_a_job_is_submitted_with_the_defaults_of_training_and_found_again(api: TestClient) -> None:
    answer = api.post("/jobs", json={"dataset": "cells@1", "adapter": "malaria", "alias": "prod", "epochs": 3})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["adapter"], job["alias"], job["attempt"]) == ("queued", "malaria", "prod", 0)
    assert (job["dataset"]["name"], job["dataset"]["version"]) == ("cells", 1)
    assert job["hyper_parameters"]["epochs"] == 3
    assert job["hyper_parameters"]["learning_rate"] == 4e-3
    assert job["created_at"].endswith("Z")
    assert (job["history"], job["progress"], job["result"], job["error"]) == ([], None, None, None)
    assert api.get(f"/jobs/{job['id']}").json() == job
    assert api.get("/jobs").json() == {"jobs": [job]}


def test_a_canary_needs_an_alias_and_the_advice_works(api: TestClient, parts: Parts, claim: Claim) -> None:
    wanted = {"dataset": "cells@1", "adapter": "malaria", "canary": 12.5}
    answer = api.post("/jobs", json=wanted)
    refused(answer, 422, "invalid_request")
    assert answer.json()["detail"].endswith("Fix: name the alias, such as prod, or leave canary out")
    job = api.post("/jobs", json={**wanted, "alias": "prod"}).json()
    assert (job["alias"], job["canary"]) == ("prod", 12.5)
    assert claim(parts).job.request.canary == 12.5
    assert api.post("/jobs", json={"dataset": "cells@1", "adapter": "malaria"}).json()["canary"] is None


def test_the_worker_claims_the_submitted_options_of_volumes_and_precision(
    api: TestClient, parts: Parts, submit: Submit, claim: Claim
) -> None:
    options = {"depth": 24, "depth_resize": "crop", "window": [-160, 240], "init_b_std": 0.5, "warmup": 0}
    job = submit(api, **options, precision="bf16", file_dtype="fp32")
    lease = claim(parts)
    assert lease.job.request.hyper_parameters == job["hyper_parameters"]
    assert {name: job["hyper_parameters"][name] for name in options} == options
    run = TrainingConfig(data=Path("d"), name="malaria", out=Path("o"), **lease.job.request.hyper_parameters)
    assert (run.depth, run.depth_resize, run.window, run.init_b_std) == (24, "crop", (-160, 240), 0.5)
    assert (run.precision, run.file_dtype) == ("bfloat16", "float32")


@pytest.mark.parametrize(
    "fields",
    [{"method": "magic"}, {"augment": "wild"}, {"method": "lora+lora-tucker"}, {"head": "mlp"}, {"head": "text"}],
)
def test_options_that_contradict_each_other_are_refused(api: TestClient, fields: dict[str, Any]) -> None:
    answer = api.post("/jobs", json={"dataset": "cells", "adapter": "malaria", **fields})
    refused(answer, 422, "invalid_request")


def test_an_unknown_dataset_is_refused(api: TestClient, archive: bytes, make_png: MakePng) -> None:
    refused(api.post("/jobs", json={"dataset": "tiles", "adapter": "malaria"}), 404, "dataset_not_found")
    refused(api.post("/jobs", json={"dataset": "cells@2", "adapter": "malaria"}), 404, "dataset_not_found")
    refused(api.post("/jobs", json={"dataset": "cells@0", "adapter": "malaria"}), 422, "invalid_reference")
    assert api.delete("/datasets/cells").status_code == 204
    refused(api.post("/jobs", json={"dataset": "cells", "adapter": "malaria"}), 404, "dataset_not_found")


def test_a_dataset_that_a_job_waits_for_cannot_be_deleted(api: TestClient, submit: Submit) -> None:
    job = submit(api)
    refused(api.delete("/datasets/cells"), 409, "dataset_in_use")
    api.delete(f"/jobs/{job['id']}")
    assert api.delete("/datasets/cells").status_code == 204


def test_the_same_idempotency_key_gives_the_same_job_and_with_another_body_an_error(api: TestClient) -> None:
    def ask(**fields: Any) -> Response:
        body = {"dataset": "cells", "adapter": "malaria", **fields}
        return api.post("/jobs", json=body, headers={"Idempotency-Key": "k-1"})

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


def test_one_queued_job_too_many_is_refused_with_a_time_to_try_again(
    make_parts: MakeParts, archive: bytes, submit: Submit
) -> None:
    with make_parts(max_queued_jobs=1) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/datasets/cells", content=archive, headers=HEADERS)
        submit(client)
        answer = client.post("/jobs", json={"dataset": "cells", "adapter": "malaria"})
        refused(answer, 429, "jobs_full")
        assert int(answer.headers["Retry-After"]) > 0


def test_cancelling_and_retrying_depend_on_the_state(
    api: TestClient, parts: Parts, submit: Submit, claim: Claim
) -> None:
    job = submit(api)
    path = f"/jobs/{job['id']}"
    refused(api.post(f"{path}/retry"), 409, "job_not_finished")
    assert (api.delete(path).status_code, api.delete(path).status_code) == (202, 202)
    assert api.get(path).json()["state"] == "cancelled"
    assert api.post(f"{path}/retry").json()["state"] == "queued"

    lease = claim(parts)
    running = api.delete(path)
    assert (running.status_code, running.json()["state"], running.json()["cancel_requested"]) == (202, "running", True)
    assert api.delete(path).json() == running.json()
    parts.training.jobs.finish(lease, "failed", None, ("training_failed", "the loss is nan"))
    refused(api.delete(path), 409, "job_finished")
    assert api.get(path).json()["error"] == {"code": "training_failed", "message": "the loss is nan"}


@pytest.mark.parametrize("ask", ["get", "delete"])
def test_an_unknown_job_is_not_found(api: TestClient, ask: str) -> None:
    refused(api.request(ask, f"/jobs/{'0' * 32}"), 404, "job_not_found")
    refused(api.request(ask, "/jobs/nothing"), 422, "invalid_request")
    for path in ("events", "log", "files", "files/card.md"):
        refused(api.get(f"/jobs/{'0' * 32}/{path}"), 404, "job_not_found")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "state=lost", "before=x"])
def test_an_impossible_page_is_refused(refusing: TestClient, query: str) -> None:
    refused(refusing.get(f"/jobs?{query}"), 422, "invalid_request")


def test_jobs_come_newest_first_in_pages(api: TestClient, submit: Submit) -> None:
    ids = [submit(api)["id"] for _ in range(3)][::-1]
    assert [job["id"] for job in api.get("/jobs?limit=2").json()["jobs"]] == ids[:2]
    assert [job["id"] for job in api.get(f"/jobs?before={ids[1]}").json()["jobs"]] == ids[2:]
    api.delete(f"/jobs/{ids[0]}")
    assert [job["id"] for job in api.get("/jobs?state=queued").json()["jobs"]] == ids[1:]


def test_a_stream_has_every_event_and_ends_with_the_job(api: TestClient, parts: Parts, lease: Lease) -> None:
    jobs = parts.training.jobs
    jobs.add_event(lease, "epoch", {"epoch": 1, "loss": 0.5})
    jobs.add_event(lease, "log", {"level": "info", "message": "hello"})
    jobs.finish(lease, "failed", None, ("training_failed", "no"))

    told = stream(api, lease.id)
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


def test_a_stream_resumes_where_the_client_lost_it(api: TestClient, parts: Parts, lease: Lease) -> None:
    parts.training.jobs.finish(lease, "succeeded")
    assert [number for _, number, _ in stream(api, lease.id, **{"Last-Event-ID": "2"})] == ["3", None]
    assert [event for event, _, _ in stream(api, lease.id, **{"Last-Event-ID": "3"})] == ["end"]
    for wrong in ("x", "-1", str(2**31)):
        answer = api.get(f"/jobs/{lease.id}/events", headers={"Last-Event-ID": wrong})
        refused(answer, 422, "invalid_request")


After = Callable[..., None]


@pytest.fixture
def after_each_look(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> After:
    """`after_each_look(first, second)`: a stream's first look at the job is followed by `first()`, and so on."""
    monkeypatch.setattr(routes, "POLL_S", 0.001)

    def follow(*steps: Callable[[], object]) -> None:
        look, remaining = parts.training.jobs.events, iter(steps)

        def look_then_step(*arguments: Any) -> Any:
            found = look(*arguments)
            next(remaining)()
            return found

        monkeypatch.setattr(parts.training.jobs, "events", look_then_step)

    return follow


def test_a_stream_follows_a_job_that_runs(api: TestClient, parts: Parts, lease: Lease, after_each_look: After) -> None:
    jobs = parts.training.jobs
    after_each_look(
        lambda: jobs.beat(lease, {"epoch": 1, "step": 1}),
        lambda: jobs.beat(lease, {"epoch": 1, "step": 2}),
        lambda: jobs.finish(lease, "succeeded"),
        lambda: None,
    )
    told = stream(api, lease.id)
    assert [data["step"] for event, _, data in told if event == "progress"] == [1, 2]
    assert [event for event, _, _ in told][-2:] == ["state", "end"]


def test_a_stream_ends_with_the_server(api: TestClient, parts: Parts, lease: Lease, after_each_look: After) -> None:
    after_each_look(lambda: None, parts.training.stopping.set)
    assert [event for event, _, _ in stream(api, lease.id)] == ["state", "state"]


def test_the_log_is_text_for_people(api: TestClient, parts: Parts, lease: Lease) -> None:
    jobs = parts.training.jobs
    jobs.add_event(lease, "epoch", {"epoch": 1, "loss": 0.5, "validation_balanced_accuracy": 0.75, "seconds": 1.25})
    jobs.add_event(lease, "log", {"level": "warning", "message": "two images are alike"})
    jobs.finish(lease, "failed", None, ("training_failed", "no"))
    answer = api.get(f"/jobs/{lease.id}/log")
    assert answer.headers["content-type"].startswith("text/plain")
    assert [line.split(" ", 1)[1] for line in answer.text.splitlines()] == [
        "queued",
        "running, attempt 1",
        "epoch 1: loss 0.5000, validation balanced accuracy 0.7500 (1.2 s)",
        "warning: two images are alike",
        "failed, attempt 1: no (training_failed)",
    ]


def test_the_history_is_part_of_the_job(api: TestClient, parts: Parts, lease: Lease) -> None:
    parts.training.jobs.add_event(lease, "epoch", {"epoch": 1, "loss": 0.5})
    assert api.get(f"/jobs/{lease.id}").json()["history"] == [{"epoch": 1, "loss": 0.5}]
    assert api.get("/jobs").json()["jobs"][0]["history"] == [{"epoch": 1, "loss": 0.5}]


def test_a_queued_job_reports_how_many_workers_could_claim_it(
    api: TestClient, parts: Parts, submit: Submit, claim: Claim
) -> None:
    job = submit(api)
    assert job["workers"] == 0
    workers, fingerprint = WorkerTable(parts.training.jobs.database), parts.engine.backbone.fingerprint
    workers.note("w", fingerprint)
    assert api.get(f"/jobs/{job['id']}").json()["workers"] == 1
    claim(parts)
    assert api.get(f"/jobs/{job['id']}").json()["workers"] is None
    assert submit(api)["workers"] == 1


def test_a_job_that_cannot_split_is_refused_with_the_words_of_the_report_and_the_advice_works(
    api: TestClient, images: Callable[..., dict[str, bytes]], zipped: Callable[..., bytes]
) -> None:
    for name, files in {
        "pairs": images(a=2, b=2),
        "triples": images(a=3, b=3),
        "one_rare": images(a=30, b=2),
        "copies": images(a=30) | {f"b/{n}.png": data for n, data in enumerate([*images(b=1).values()] * 30)},
    }.items():
        report = api.put(f"/datasets/{name}", content=zipped(files), headers=HEADERS).json()["report"]
        said = [warning["message"] for warning in report["warnings"] if warning["code"] == "cannot_split"]
        answer = api.post("/jobs", json={"dataset": name, "adapter": "malaria"})

        refused(answer, 422, "dataset_too_small")
        assert [answer.json()["detail"]] == said
        advice = re.search(r"validation_fraction (\S+) and test_fraction (\S+)", said[0])
        assert advice is not None
        fractions = {"validation_fraction": float(advice[1]), "test_fraction": float(advice[2])}
        again = api.post("/jobs", json={"dataset": name, "adapter": "malaria", **fractions})
        assert again.status_code == 201, name


def test_a_group_regex_is_checked_when_the_job_is_submitted_with_the_words_of_training(
    api: TestClient, images: Callable[..., dict[str, bytes]], zipped: Callable[..., bytes], tmp_path: Path
) -> None:
    archive = tmp_path / "cells.zip"
    archive.write_bytes(zipped(images(a=30, b=30)))
    api.put("/datasets/cells", content=archive.read_bytes(), headers=HEADERS)

    def submitted(expression: str) -> Any:
        return api.post("/jobs", json={"dataset": "cells", "adapter": "malaria", "group_regex": expression})

    for expression in ("patient_([0-9]+)", "^[^/]+/(x)"):
        with pytest.raises(DatasetError) as caught:
            read_folder(archive, expression)
        refused(submitted(expression), 422, "dataset_invalid")
        assert submitted(expression).json()["detail"] == str(caught.value)
    few = submitted("^([^/]+)/")  # each class is one group
    refused(few, 422, "dataset_too_small")
    assert "Found 30 image(s) in 1 group(s) of 'a'" in few.json()["detail"]
    with pytest.raises(DatasetError, match=re.escape(few.json()["detail"].partition(". ")[0])):
        split_folder(read_folder(archive, "^([^/]+)/"), 0)
    refused(submitted("("), 422, "invalid_request")
    assert submitted(r"(\d+)\.png$").status_code == 201


def test_a_known_idempotency_key_gets_its_job_even_if_the_dataset_has_become_too_small(
    api: TestClient, images: Callable[..., dict[str, bytes]], zipped: Callable[..., bytes]
) -> None:
    body, key = {"dataset": "cells", "adapter": "malaria"}, {"Idempotency-Key": "once"}
    first = api.post("/jobs", json=body, headers=key).json()
    assert api.put("/datasets/cells", content=zipped(images(a=2, b=2)), headers=HEADERS).status_code == 201

    assert api.post("/jobs", json=body, headers=key).json()["id"] == first["id"]
    refused(api.post("/jobs", json=body), 422, "dataset_too_small")
