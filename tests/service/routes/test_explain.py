"""POST /explain gives the grid that plain torch computes, or an image with it, and gives way to predictions."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from torch import Tensor

from lensmount_adapters import Backbone, ExactSwapper, admit, decode_image, load_backbone, preprocess
from lensmount_adapters.errors import SwapError
from lensmount_adapters.explain.explainer import METHODS, Explainer
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_client import AsyncClient, Client, UnknownLabel
from lensmount_client._api.explain import METHODS as METHODS_OF_CLIENT
from lensmount_service.access.identity import Identity
from lensmount_service.access.quotas import Meter, Rate

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Until


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Explanations wait for this event, and ask whether to continue before they compute."""
    released = threading.Event()
    plain = Explainer.explain

    def explain(self: Explainer, adapter: Any, image: Tensor, method: str, label: Any, proceed: Any) -> Any:
        released.wait(60)
        proceed()
        return plain(self, adapter, image, method, label, proceed)

    monkeypatch.setattr(Explainer, "explain", explain)
    yield released
    released.set()


def grad_cam(backbone: Backbone, data: bytes, image: bytes, label: int) -> tuple[float, np.ndarray]:
    """The score of the label and its Grad-CAM without the cut at zero, by torch alone on a mounted adapter."""
    adapter = admit(data, backbone)
    ExactSwapper(backbone).mount(adapter)
    rule = adapter.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    kept: list[Tensor] = []
    hook = backbone.module.get_submodule("layer4").register_forward_hook(
        lambda _, inputs, maps: kept.append(maps.requires_grad_())
    )
    logits = adapter.head(backbone.module(preprocess(decode_image(image), rule)[None]))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[0, label], kept[0])
    values = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0]
    return float(logits.detach().softmax(1)[0, label]), values.detach().numpy()


def test_the_grid_is_grad_cam_of_the_label_with_the_best_score(
    shared_client: TestClient, make_adapter: MakeAdapter, make_png: MakePng, fresh_backbone: Backbone
) -> None:
    best = shared_client.post("/predict?adapter=cells", content=make_png()).json()["predictions"][0]

    answer = shared_client.post("/explain?adapter=cells", content=make_png(), headers={"Accept": "application/json"})

    assert answer.status_code == 200
    body = answer.json()
    score, values = grad_cam(fresh_backbone, make_adapter(1, ("a", "b")), make_png(), "ab".index(best["label"]))
    assert (body["method"], body["label"]) == ("cam", best["label"])
    assert body["score"] == pytest.approx(best["score"], abs=1e-4)
    assert body["score"] == pytest.approx(score, abs=1e-4)
    assert body["grid"] == list(values.shape)
    np.testing.assert_allclose(body["values"], values, rtol=1e-3, atol=1e-4 * float(np.abs(values).max()))
    assert body["size"] == [40, 48]
    assert body["adapter"]["name"] == "cells"
    assert body["backbone"]["fingerprint"] == fresh_backbone.fingerprint
    assert body["timing_ms"].keys() == {"decode", "explain", "total"}
    assert body["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", ["a", "b"])
def test_every_method_explains_every_label(
    shared_client: TestClient, make_png: MakePng, method: str, label: str
) -> None:
    scores = shared_client.post("/predict?adapter=cells", content=make_png()).json()["predictions"]

    body = shared_client.post(f"/explain?adapter=cells&method={method}&label={label}", content=make_png()).json()

    assert (body["method"], body["label"]) == (method, label)
    assert body["score"] == pytest.approx(next(p["score"] for p in scores if p["label"] == label), abs=1e-4)
    assert np.array(body["values"]).shape == tuple(body["grid"])
    assert np.abs(body["values"]).max() > 0


def test_an_image_is_drawn_if_the_client_asks_for_png(shared_client: TestClient, make_png: MakePng) -> None:
    accept = {"Accept": "image/png"}

    drawn = shared_client.post("/explain?adapter=cells&method=occlusion", content=make_png(), headers=accept)

    assert drawn.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(drawn.content)).size == (48, 40)
    about = dict(part.split("=") for part in drawn.headers["Lensmount-Explanation"].split("; "))
    asked = shared_client.post("/explain?adapter=cells&method=occlusion", content=make_png()).json()
    assert about["method"] == "occlusion"
    assert about["grid"] == "8x8"
    assert unquote(about["label"]) == asked["label"]
    assert float(about["score"]) == pytest.approx(asked["score"], abs=1e-4)
    assert drawn.headers["Lensmount-Adapter"].startswith("cells@1; sha256:")


def test_a_multipart_file_gets_the_same_answer_as_a_raw_body(shared_client: TestClient, make_png: MakePng) -> None:
    raw = shared_client.post("/explain?adapter=cells", content=make_png()).json()
    form = shared_client.post("/explain?adapter=cells", files={"file": ("cell.png", make_png(), "image/png")}).json()

    np.testing.assert_allclose(form["values"], raw["values"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "status", "code", "words"),
    [
        ("adapter=nobody", 404, "adapter_not_found", "nobody"),
        ("adapter=cells&label=c", 422, "unknown_label", "expected one of a, b"),
        ("adapter=cells&method=magic", 422, "invalid_request", "'cam', 'layercam' or 'occlusion'"),
        ("adapter=cells,tiles", 422, "invalid_request", "1"),
        ("adapter=cells&timeout=0", 422, "invalid_request", "timeout"),
        ("", 422, "invalid_request", "adapter"),
    ],
)
def test_a_wrong_question_is_refused(
    shared_client: TestClient, make_png: MakePng, query: str, status: int, code: str, words: str
) -> None:
    answer = shared_client.post(f"/explain?{query}", content=make_png())

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert words in answer.json()["detail"]


def test_a_wrong_image_is_refused(shared_client: TestClient, make_png: MakePng) -> None:
    two = [("file", ("one.png", make_png(1))), ("file", ("two.png", make_png(2)))]

    assert (
        shared_client.post("/explain?adapter=cells", content=b"no image").json()["code"] == "unsupported_image_format"
    )
    assert shared_client.post("/explain?adapter=cells", content=b"").json()["code"] == "image_empty"
    assert shared_client.post("/explain?adapter=cells", files=two).json()["code"] == "single_image_required"
    refused = shared_client.post("/explain?adapter=cells", content=make_png(), headers={"Accept": "text/html"})
    assert refused.json()["code"] == "not_acceptable"


def test_a_vision_transformer_is_explained_by_the_method_that_the_refusal_names(
    make_parts: MakeParts, make_png: MakePng, draw_adapter: Callable[..., Any]
) -> None:
    backbone = load_backbone("test_vit", "random:0")
    with make_parts(backbone) as parts, TestClient(parts.app, "http://localhost") as client:
        client.put("/adapters/vit", content=draw_adapter(backbone).dump())

        refused = client.post("/explain?adapter=vit", content=make_png()).json()

        assert (refused["status"], refused["code"]) == (422, "explanation_not_possible")
        method = refused["detail"].partition("Fix: the method ")[2].split(",")[0]
        assert client.post(f"/explain?adapter=vit&method={method}", content=make_png()).status_code == 200


def test_a_server_that_merges_in_place_explains_each_adapter_and_keeps_its_weights(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, fresh_backbone: Backbone
) -> None:
    with make_parts(fresh_backbone, executor="merged") as parts, TestClient(parts.app, "http://localhost") as client:
        for name, seed in (("cells", 1), ("tiles", 2)):
            client.put(f"/adapters/{name}", content=make_adapter(seed, ("a", "b")))
            client.post(f"/predict?adapter={name}", content=make_png())
        scores = {
            name: client.post(f"/predict?adapter={name}", content=make_png()).json()["predictions"][0]
            for name in ("cells", "tiles")
        }

        for name in ("cells", "tiles"):
            for method in METHODS:
                body = client.post(f"/explain?adapter={name}&method={method}", content=make_png()).json()
                assert body["label"] == scores[name]["label"]
                assert body["score"] == pytest.approx(scores[name]["score"], abs=1e-4)

        assert client.get("/integrity").json()["ok"]


def test_many_explanations_leave_the_weights_as_they_were(shared_client: TestClient, make_png: MakePng) -> None:
    for index in range(40):
        answer = shared_client.post(f"/explain?adapter={('cells', 'tiles')[index % 2]}", content=make_png(index % 5))
        assert answer.status_code == 200

    assert shared_client.get("/integrity").json()["ok"]


def test_predictions_are_answered_while_explanations_wait_and_too_many_are_refused(
    client: TestClient, make_png: MakePng, held: threading.Event, until: Until
) -> None:
    statuses: list[int] = []
    asked = [
        threading.Thread(
            target=lambda: statuses.append(
                client.post("/explain?adapter=cells&method=occlusion", content=make_png()).status_code
            )
        )
        for _ in range(12)
    ]
    for thread in asked:
        thread.start()
    until(lambda: len(statuses) == 4)  # those that found no room

    assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200
    full = client.post("/explain?adapter=cells&method=occlusion", content=make_png())
    assert (full.status_code, full.json()["code"]) == (429, "queue_full")
    assert int(full.headers["Retry-After"]) >= 1
    assert "8 explanations" in full.json()["detail"]
    held.set()
    for thread in asked:
        thread.join(60)
    assert sorted(statuses) == [200] * 8 + [429] * 4


def test_an_explanation_that_takes_too_long_is_given_up_and_the_next_one_is_answered(
    client: TestClient, make_png: MakePng, held: threading.Event
) -> None:
    late = client.post("/explain?adapter=cells&method=occlusion&timeout=0.2", content=make_png())

    held.set()
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert client.post("/explain?adapter=cells", content=make_png()).status_code == 200


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("odd"), "forward_failed"), (SwapError("no merge"), "swap_failed")]
)
def test_an_error_of_the_network_is_temporary_and_no_bug(
    client: TestClient, make_png: MakePng, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Explainer, "explain", fail)

    answer = client.post("/explain?adapter=cells&method=occlusion", content=make_png())

    assert (answer.status_code, answer.json()["code"]) == (503, code)


def test_requests_are_counted_by_method_and_status(client: TestClient, make_png: MakePng) -> None:
    client.post("/explain?adapter=cells&method=layercam", content=make_png())
    client.post("/explain?adapter=cells&label=zebra", content=make_png())

    text = client.get("/metrics").text

    assert 'lensmount_explanations_total{code="200",method="layercam"} 1.0' in text
    assert 'lensmount_explanations_total{code="422",method="cam"} 1.0' in text


@pytest.mark.parametrize(("method", "passes"), [("cam", 1), ("layercam", 3), ("occlusion", 51)])
def test_an_image_is_charged_once_for_each_pass_of_the_network(
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    passes: int,
) -> None:
    charged: list[int] = []
    charge = Meter.charge

    def note(meter: Meter, identity: Identity, rate: Rate, cost: int) -> Any:
        if rate == "pixels_per_minute":
            charged.append(cost)
        return charge(meter, identity, rate, cost)

    monkeypatch.setattr(Meter, "charge", note)
    pixels = 48 * 40
    body = {"name": "reader1", "scopes": ["predict"], "quotas": {"pixels_per_minute": 50 * pixels}}
    with make_parts(token="first") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        first = {"Authorization": "Bearer first"}
        client.put("/adapters/cells", content=make_adapter(1), headers=first).raise_for_status()
        limited = {"Authorization": f"Bearer {client.post('/tokens', json=body, headers=first).json()['secret']}"}
        asked = f"/explain?adapter=cells&method={method}"
        answer = client.post(asked, content=make_png(), headers=limited)
    assert charged[-1] == passes * pixels
    assert answer.status_code == (200 if passes <= 50 else 413), answer.text


def test_the_sdk_draws_what_the_server_draws(shared_client: TestClient, make_png: MakePng, tmp_path: Path) -> None:
    def handed_on(request: httpx.Request) -> httpx.Response:
        answer = shared_client.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    async def asked() -> tuple[Any, bytes]:
        async with AsyncClient("http://127.0.0.1", transport=httpx.MockTransport(handed_on)) as client:
            question = {"label": "y", "method": "layercam"}
            return await client.explain(image, "tiles", **question), await client.explanation_png(
                image, "tiles", **question
            )

    image = make_png(3, (90, 60))
    with Client("http://127.0.0.1", transport=httpx.MockTransport(handed_on)) as client:
        found = client.explain(image, "tiles", label="y", method="layercam")
        png = client.explanation_png(image, "tiles", label="y", method="layercam")
        with pytest.raises(UnknownLabel, match="expected one of x, y, z"):
            client.explain(image, "tiles", label="w")

    drawn, sent = (
        np.asarray(Image.open(file).convert("RGB"), int) for file in (found.save(tmp_path / "why.png"), io.BytesIO(png))
    )
    assert drawn.shape == sent.shape
    assert np.abs(drawn - sent).max() <= 2  # values are rounded in JSON
    other, other_png = asyncio.run(asked())
    assert (other.label, other.grid) == (found.label, found.grid) == ("y", (4, 4))
    assert abs(len(other_png) - len(png)) < 100


def test_the_client_knows_the_methods_of_the_server() -> None:
    assert set(METHODS_OF_CLIENT) == METHODS.keys()
    assert METHODS_OF_CLIENT[0] == next(iter(METHODS)) == "cam"


def test_class_activation_maps_are_batched_like_predictions_and_wait_behind_no_explanation(
    client: TestClient, make_png: MakePng, held: threading.Event
) -> None:
    slow = threading.Thread(
        target=lambda: client.post("/explain?adapter=cells&method=occlusion&timeout=50", content=make_png())
    )
    slow.start()

    answers = [client.post(f"/explain?adapter={name}", content=make_png()) for name in ("cells", "tiles", "cells")]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert 'lensmount_images_total{mode="maps"} 3.0' in client.get("/metrics").text
    held.set()
    slow.join(60)
