"""A job of the kind `predict` labels a dataset: completely, once, and from what the trunk gave before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters.errors import ImageInvalid
from lensmount_adapters.inputs.prepare import prepare
from lensmount_client._types.batch import BATCH_COLUMNS
from lensmount_service.build import Parts
from lensmount_service.errors import QueueFull
from lensmount_service.routes.archives import answers
from lensmount_service.routes.archives.rows import COLUMNS

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, MakeTrusted, Until, Zip

IMAGES = 40


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts(executor="eager", max_batch=8) as parts:
        yield parts


@pytest.fixture
def api(parts: Parts, make_adapter: MakeAdapter, images: DrawImages, zipped: Zip) -> Iterator[TestClient]:
    """The app with the adapters `cells` and `tiles`, and the dataset `pets` of 40 images."""
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
        client.put("/adapters/tiles", content=make_adapter(2, ("x", "y")))
        body = zipped(images(0, a=IMAGES // 2, b=IMAGES // 2))
        assert (
            client.put("/datasets/pets", content=body, headers={"Content-Type": "application/zip"}).status_code == 201
        )
        yield client


def submitted(api: TestClient, adapters: list[str], **more: Any) -> str:
    answer = api.post("/jobs", json={"kind": "predict", "dataset": "pets", "adapters": adapters, **more})
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["kind"], found["state"], found["workers"]) == ("predict", "queued", None)
    return str(found["id"])


def ended(api: TestClient, until: Until, job: str) -> Any:
    until(lambda: api.get(f"/jobs/{job}").json()["state"] not in ("queued", "running"), seconds=60)
    return api.get(f"/jobs/{job}").json()


def rows_of(api: TestClient, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in api.get(f"/jobs/{job}/files/results.jsonl").text.splitlines()]


def test_each_image_has_one_row_for_each_adapter_in_the_order_of_the_dataset(
    api: TestClient, until: Until, make_adapter: MakeAdapter
) -> None:
    api.put("/adapters/cells/aliases/prod", json={"version": 1})
    api.put("/adapters/cells", content=make_adapter(3, ("a", "b")))
    job = ended(api, until, submitted(api, ["cells:prod", "tiles"]))
    assert job["state"] == "succeeded", job
    assert {name: job["result"][name] for name in ("images", "rows", "failed", "files", "published")} == {
        **{"images": IMAGES, "rows": 2 * IMAGES, "failed": 0, "files": ["results.jsonl"], "published": False}
    }
    rows = rows_of(api, job["id"])
    names = [f"{label}/{number}.png" for label in "ab" for number in range(IMAGES // 2)]
    assert sorted({row["file"] for row in rows}) == sorted(names)
    assert [(row["file"], row["adapter"]) for row in rows] == [
        (row["file"], adapter) for row in rows[::2] for adapter in ("cells:prod", "tiles")
    ]
    assert {row["version"] for row in rows if row["adapter"] == "cells:prod"} == {1}
    assert tuple(rows[0]) == COLUMNS == BATCH_COLUMNS
    listed = api.get(f"/jobs/{job['id']}/files").json()["files"]
    assert [file["name"] for file in listed] == ["results.jsonl"]


def test_rows_are_what_requests_answer(
    api: TestClient, until: Until, images: DrawImages, make_trusted: MakeTrusted
) -> None:
    assert api.put("/adapters/trusted", content=make_trusted()).status_code == 201
    rows = rows_of(api, ended(api, until, submitted(api, ["trusted"]))["id"])
    drawn = images(0, a=IMAGES // 2, b=IMAGES // 2)
    for row in rows[::13]:
        answer = api.post("/predict?adapter=trusted", content=drawn[row["file"]]).json()
        assert row["scores"] == pytest.approx({p["label"]: p["score"] for p in answer["predictions"]}, abs=1e-5)
        assert (row["decision"], row["set"]) == (answer["trust"]["decision"], answer["trust"]["set"])
        assert row["percentile"] == pytest.approx(answer["trust"]["unfamiliarity"]["percentile"], abs=1.0)
        assert row["digest"] == answer["adapter"]["digest"]


def test_the_next_adapter_reads_no_image(api: TestClient, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(api, until, submitted(api, ["cells"]))

    def never(*_: Any) -> Any:
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(answers, "prepare", never)
    job = ended(api, until, submitted(api, ["tiles"]))
    assert (job["state"], job["result"]["failed"]) == ("succeeded", 0)


def test_an_image_that_cannot_be_read_is_a_row(api: TestClient, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def broken(*arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == 5:
            raise ImageInvalid("found bytes without an image")
        return prepare(*arguments)

    monkeypatch.setattr(answers, "prepare", broken)
    job = ended(api, until, submitted(api, ["cells", "tiles"]))
    assert (job["state"], job["result"]["failed"], job["result"]["rows"]) == ("succeeded", 1, 2 * IMAGES)
    bad = [row for row in rows_of(api, job["id"]) if row["error"]]
    assert [(row["adapter"], row["error"]) for row in bad] == [("cells", "image_invalid"), ("tiles", "image_invalid")]


def test_a_cancelled_job_stops_and_may_be_tried_again(
    api: TestClient, until: Until, monkeypatch: pytest.MonkeyPatch, parts: Parts
) -> None:
    monkeypatch.setattr(parts.training.jobs, "lease_s", 0.6)
    original = answers.ArchiveAnswers.compute
    computed: list[int] = []
    stopped = True

    async def slow(self: Any, context: Any, images: Any, *more: Any) -> Any:
        if stopped and len(computed) >= 2:
            raise QueueFull("found a full queue")
        computed.append(len(images))
        return await original(self, context, images, *more)

    monkeypatch.setattr(answers.ArchiveAnswers, "compute", slow)
    job = submitted(api, ["cells"])
    until(lambda: len(computed) >= 2)
    assert api.delete(f"/jobs/{job}").status_code == 202
    assert ended(api, until, job)["state"] == "cancelled"
    stopped = False
    assert api.post(f"/jobs/{job}/retry").status_code == 202
    again = ended(api, until, job)
    assert again["state"] == "succeeded"
    assert len(rows_of(api, job)) == IMAGES


def test_an_adapter_that_was_deleted_meanwhile_ends_the_job_with_its_code(
    api: TestClient, until: Until, parts: Parts
) -> None:
    job = api.post("/jobs", json={"kind": "predict", "dataset": "pets", "adapters": ["tiles"]}).json()
    api.delete("/adapters/tiles")
    found = ended(api, until, job["id"])
    assert found["state"] in ("succeeded", "failed")  # it may have been faster
    if found["state"] == "failed":
        assert found["error"]["code"] in ("version_deleted", "adapter_not_found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"dataset": "gone", "adapters": ["cells"]}, 404, "dataset_not_found"),
        ({"dataset": "pets", "adapters": ["gone"]}, 404, "adapter_not_found"),
        ({"dataset": "pets", "adapters": ["cells,tiles"]}, 422, "invalid_reference"),
        ({"dataset": "pets", "adapters": []}, 422, "invalid_request"),
        ({"dataset": "pets", "adapters": ["cells"] * 17}, 422, "invalid_request"),
        ({"dataset": "pets", "adapters": ["cells"], "epochs": 3}, 422, "invalid_request"),
        ({"dataset": "pets", "adapter": "cells"}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_refused(api: TestClient, body: Any, status: int, code: str) -> None:
    answer = api.post("/jobs", json={"kind": "predict", **body})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_job_of_more_pixels_than_the_operator_allows_is_refused(
    make_parts: MakeParts, make_adapter: MakeAdapter, images: DrawImages, zipped: Zip
) -> None:
    with (
        make_parts(max_job_pixels=40 * 64 * 64 - 1) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        client.put("/adapters/cells", content=make_adapter(1))
        client.put("/datasets/pets", content=zipped(images(0, a=20, b=20)), headers={"Content-Type": "application/zip"})
        answer = client.post("/jobs", json={"kind": "predict", "dataset": "pets", "adapters": ["cells"]})
        assert answer.status_code == 422
        assert "LENSMOUNT_MAX_JOB_PIXELS" in answer.json()["detail"]


def test_workers_get_no_job_that_predicts(api: TestClient, parts: Parts, until: Until) -> None:
    job = submitted(api, ["cells"])
    assert parts.training.jobs.claim("worker", parts.engine.backbone.fingerprint) is None
    assert ended(api, until, job)["state"] == "succeeded"
