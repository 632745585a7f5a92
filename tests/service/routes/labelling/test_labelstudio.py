"""Label Studio's requests to an ML backend, in the form of its documentation, get answers in its form."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from tests.image_server import image_server

from lensmount_service.routes.labelling.labelstudio import together

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

BASE = "/integrations/labelstudio/cells"
CONFIG = (
    '<View><Image name="image" value="$image_url"/><Choices name="label" toName="image">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)


def task(image: bytes, number: int = 1) -> dict[str, Any]:
    return {"id": number, "data": {"image_url": f"data:image/png;base64,{base64.b64encode(image).decode()}"}}


def asked(*tasks: dict[str, Any], config: str = CONFIG) -> dict[str, Any]:
    return {
        "tasks": list(tasks),
        "model_version": "1",
        "project": "12.1712345678",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }


def test_a_project_is_connected(shared_client: TestClient) -> None:
    digest = shared_client.get("/adapters/cells").json()["digest"]
    schema = {"project": "12.1712345678", "schema": CONFIG, "hostname": "http://ls", "access_token": "x"}

    assert shared_client.get(f"{BASE}/health").json()["status"] == "UP"
    assert shared_client.post(f"{BASE}/setup", json=schema).json() == {"model_version": digest}


def test_predictions_are_choices_with_the_score_of_predict(shared_client: TestClient, make_png: MakePng) -> None:
    images = [make_png(seed) for seed in range(3)]
    answer = shared_client.post(f"{BASE}/predict", json=asked(*map(task, images))).json()

    assert len(answer["results"]) == 3
    for image, result in zip(images, answer["results"], strict=True):
        best = shared_client.post("/predict?adapter=cells", content=image).json()["predictions"][0]
        (choice,) = result["result"]
        assert (choice["from_name"], choice["to_name"], choice["type"]) == ("label", "image", "choices")
        assert choice["value"] == {"choices": [best["label"]]}
        assert result["score"] == pytest.approx(best["score"], abs=1e-5)
        assert result["model_version"] == shared_client.get("/adapters/cells").json()["digest"]


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "file:///etc/passwd", "/data/upload/1.png", "", "data:image/png;base64,?"]
)
def test_without_a_list_of_hosts_no_url_of_a_task_is_fetched(shared_client: TestClient, url: str) -> None:
    answer = shared_client.post(f"{BASE}/predict", json=asked({"id": 1, "data": {"image_url": url}}))

    assert answer.status_code == 422
    assert "Fix: import tasks whose images are data:" in answer.json()["detail"]


@pytest.mark.parametrize(
    "config",
    [
        "",
        "<View>",
        "<View/>",
        '<View><Image name="i" value="$x"/></View>',
        '<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>',
        CONFIG.replace("$image_url", "http://host/x.png"),
    ],
)
def test_a_labelling_interface_without_choices_for_an_image_is_refused(
    shared_client: TestClient, make_png: MakePng, config: str
) -> None:
    answer = shared_client.post(f"{BASE}/predict", json=asked(task(make_png()), config=config))

    assert (answer.status_code, "Fix: use the template" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tasks": 1}', b'{"tasks": [1], "label_config": "x"}', b"\xff"])
def test_what_is_not_label_studios_json_is_refused(shared_client: TestClient, body: bytes) -> None:
    assert shared_client.post(f"{BASE}/predict", content=body).status_code == 422


def test_an_adapter_that_is_not_there_is_not_healthy(shared_client: TestClient) -> None:
    assert shared_client.get("/integrations/labelstudio/none/health").json()["code"] == "adapter_not_found"


def annotated(image: bytes, label: str = "a", action: str = "ANNOTATION_CREATED") -> dict[str, Any]:
    choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
    return {
        "action": action,
        "annotation": {"id": 7, "completed_by": 3, "result": [choice], "was_cancelled": False},
        "task": task(image),
        "project": {"id": 12, "label_config": CONFIG},
    }


def test_an_annotation_is_kept_as_feedback_where_the_operator_allows_it(
    shared_client: TestClient, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    assert shared_client.post(f"{BASE}/webhook", json=annotated(make_png())).json()["code"] == "feedback_off"

    with make_parts(feedback="on") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        api.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
        kept = api.post(f"{BASE}/webhook", json=annotated(make_png()))
        other = api.post(f"{BASE}/webhook", json=annotated(make_png(), "c"))
        ignored = api.post(f"{BASE}/webhook", json=annotated(make_png(), action="PROJECT_UPDATED"))
        labels = api.get("/datasets/cells-feedback/labels").json()["labels"]

    assert (kept.status_code, kept.json()["status"]) == (201, "ok")
    assert "expected one of a, b" in other.json()["detail"]
    assert ignored.json() == {"status": "ignored"}
    assert [(each["label"], each["who"]) for each in labels] == [("a", "labelstudio user 3")]


def test_tasks_of_very_many_small_values_are_refused(shared_client: TestClient) -> None:
    """A body of 128 MB could otherwise become objects of several GB."""
    body = b'{"tasks": [{"data": {"a": [%s]}}], "label_config": "x"}' % b",".join([b'{"a":0}'] * 300_000)

    for path in ("predict", "webhook"):
        assert shared_client.post(f"{BASE}/{path}", content=body).json()["code"] == "body_too_large"


def test_only_predictions_wait_until_the_adapters_program_is_made(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    with make_parts(feedback="on") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        api.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
        prepare = parts.engine.runner.prepare
        monkeypatch.setattr(parts.engine.runner, "ready", lambda adapter: False)
        monkeypatch.setattr(
            parts.engine.runner, "prepare", lambda adapter: prepared.append("cells") or prepare(adapter)
        )

        assert api.get(f"{BASE}/health").status_code == 200
        assert api.post(f"{BASE}/setup", json={}).status_code == 200
        assert api.post(f"{BASE}/webhook", json=annotated(make_png())).status_code == 201
        assert prepared == []
        assert api.post(f"{BASE}/predict", json=asked(task(make_png()))).status_code == 200
        assert prepared == ["cells"]


def test_images_on_a_listed_host_are_fetched_for_predictions_and_feedback(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    image = make_png(4)
    with image_server({"/4.png": image}) as host, make_parts(feedback="on", labelstudio_hosts=host) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as api:
            api.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
            remote = {"id": 1, "data": {"image_url": f"http://{host}/4.png"}}
            found = api.post(f"{BASE}/predict", json=asked(remote, task(image))).json()["results"]
            kept = api.post(f"{BASE}/webhook", json=annotated(image) | {"task": remote})
            missing = {"id": 2, "data": {"image_url": f"http://{host}/5.png"}}
            refused = api.post(f"{BASE}/predict", json=asked(remote, missing))
            elsewhere = {"id": 3, "data": {"image_url": "http://169.254.169.254/latest"}}
            other = api.post(f"{BASE}/predict", json=asked(elsewhere))
            stored = api.get(f"/datasets/cells-feedback/unlabelled/{kept.json()['digest']}")

    assert found[0] == found[1]
    assert (kept.status_code, stored.status_code) == (201, 200)
    assert (refused.status_code, "found the status 404" in refused.json()["detail"]) == (422, True)
    assert (other.status_code, "LENSMOUNT_LABELSTUDIO_HOSTS" in other.json()["detail"]) == (422, True)


def test_many_tasks_have_the_time_of_one_request(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts(request_timeout_s=0.001) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        api.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
        late = api.post(f"{BASE}/predict", json=asked(*[task(make_png(seed % 5), seed) for seed in range(200)]))

    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


@pytest.mark.anyio
async def test_what_runs_together_is_cancelled_as_soon_as_one_part_fails() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails() -> None:
        await asyncio.sleep(0)  # so that the other has begun
        raise ValueError("fails")

    with pytest.raises(ValueError, match="fails"):
        await together([waits(), fails()])
    await asyncio.sleep(0)
    assert ended == ["waits"]
