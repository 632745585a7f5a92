"""The unchanged client of Hugging Face against /hf: its scores are those of POST /predict, bit for bit."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

pytest.importorskip("huggingface_hub", reason='needs huggingface_hub: pip install "lensmount[torch]"')
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from lensmount_service.access.identity import Quotas
from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import MakePng
    from tests.service.twins.conftest import Predict


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends no token of this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr("huggingface_hub.inference._providers.hf_inference.get_token", lambda: None)


def rows(found: Any) -> list[dict[str, object]]:
    return [{"label": each.label, "score": each.score} for each in found]


@pytest.mark.usefixtures("no_login")
def test_the_client_has_the_scores_of_predict_for_every_kind_of_reference(
    address: str, api: httpx.Client, predicted: Predict, make_png: MakePng
) -> None:
    image = make_png(1)
    digest = api.get("/adapters/cells/versions/1").json()["digest"]
    for reference in ("tiles", "cells", "cells@1", f"cells@{digest}", "cells:prod", "sure"):
        found = InferenceClient(model=f"{address}/hf/{reference}").image_classification(image)
        assert rows(found) == predicted(reference, image)


@pytest.mark.usefixtures("no_login")
def test_parameters_and_files_of_the_client_work(
    address: str, predicted: Predict, make_png: MakePng, tmp_path: Path
) -> None:
    client = InferenceClient(model=f"{address}/hf/tiles")
    path = tmp_path / "tile.png"
    path.write_bytes(make_png(2))
    expected = predicted("tiles", path.read_bytes())
    assert rows(client.image_classification(str(path))) == expected
    assert rows(client.image_classification(path.read_bytes(), top_k=2)) == expected[:2]
    assert rows(client.image_classification(path.read_bytes(), function_to_apply="softmax")) == expected


@pytest.mark.usefixtures("no_login")
@pytest.mark.filterwarnings("ignore:Use .content:DeprecationWarning")  # of the client itself
def test_the_client_for_asyncio_does_the_same(address: str, predicted: Predict, make_png: MakePng) -> None:
    async def story() -> Any:
        async with AsyncInferenceClient(model=f"{address}/hf/tiles") as client:
            return await client.image_classification(make_png(2), top_k=1)

    assert rows(asyncio.run(story())) == predicted("tiles", make_png(2))[:1]


@pytest.mark.usefixtures("no_login")
def test_the_client_shows_the_code_of_what_is_refused(address: str, make_png: MakePng) -> None:
    image = make_png()
    refused: list[tuple[str, bytes, dict[str, Any], str]] = [
        ("nothing", image, {}, "adapter_not_found"),
        ("cells@9", image, {}, "version_not_found"),
        ("cells:nobody", image, {}, "alias_not_found"),
        ("Cells", image, {}, "invalid_reference"),
        ("cells,tiles", image, {}, "invalid_request"),
        ("cells", b"no image", {}, "unsupported_image_format"),
        ("cells", image, {"top_k": 0}, "invalid_request"),
        ("cells", image, {"function_to_apply": "none"}, "invalid_request"),
    ]
    for reference, data, parameters, code in refused:
        client = InferenceClient(model=f"{address}/hf/{reference}")
        with pytest.raises(HfHubHTTPError) as told:
            client.image_classification(data, **parameters)
        assert str(told.value.server_message).startswith(f"{code}: "), reference
        assert told.value.request_id


def test_a_login_at_hugging_face_is_no_token_of_this_server_and_the_advice_works(
    address: str, predicted: Predict, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_login")
    model = f"{address}/hf/cells"
    with pytest.raises(HfHubHTTPError, match="unauthorized: found no valid token"):
        InferenceClient(model=model).image_classification(make_png())
    sent_none = InferenceClient(model=model, headers={"authorization": ""})
    assert rows(sent_none.image_classification(make_png())) == predicted("cells", make_png())


def test_a_request_is_counted_like_one_of_predict(api: httpx.Client, make_png: MakePng) -> None:
    def counted() -> tuple[int, int]:
        stats = api.get("/adapters/sure/stats").json()
        return stats["requests"].get("200", 0), sum(stats["decisions"].values())

    before = counted()
    answer = api.post("/hf/sure", content=make_png())
    assert counted() == (before[0] + 1, before[1] + 1)
    version = api.get("/adapters/sure").json()
    assert answer.headers["Lensmount-Adapter"] == f"sure@{version['version']}; {version['digest']}"
    trust = api.post("/predict?adapter=sure", content=make_png()).json()["trust"]
    assert answer.headers["Lensmount-Decision"] == trust["decision"]


def test_with_the_request_id_of_an_answer_feedback_needs_no_image(api: httpx.Client, make_png: MakePng) -> None:
    answer = api.post("/hf/cells", content=make_png(9))
    kept = api.post(f"/feedback?adapter=cells&label=b&who=reader1&request_id={answer.headers['X-Request-Id']}")
    assert kept.status_code == 201, kept.text


def test_a_canary_answers_here_as_it_does_to_predict(api: httpx.Client, make_png: MakePng) -> None:
    rollout = {"stable": 1, "canary": {"version": 2, "percent": 50, "key": "header:X-Patient"}}
    started = api.put("/adapters/cells/aliases/trial", json=rollout)
    assert started.is_success, started.text
    sides = set()
    for number in range(12):
        key = {"X-Patient": f"p{number}"}
        version = api.post("/predict?adapter=cells:trial", content=make_png(), headers=key).json()["adapter"]["version"]
        sides.add(version)
        for route in ("/hf/cells:trial", "/invocations?adapter=cells:trial"):
            answer = api.post(route, content=make_png(), headers=key)
            assert answer.headers["Lensmount-Adapter"].startswith(f"cells@{version}; ")
    assert sides == {1, 2}
    assert api.delete("/adapters/cells/aliases/trial").is_success


def test_errors_of_middleware_and_of_paths_have_the_member_that_the_client_reads(api: httpx.Client) -> None:
    for method, path, headers, code in [
        ("POST", "/hf/nothing/at/all", {}, "not_found"),
        ("GET", "/hf/cells", {}, "method_not_allowed"),
        ("POST", "/hf/" + "x" * 5000, {}, "uri_too_long"),
        ("POST", "/hf/cells", {"Content-Encoding": "gzip"}, "unsupported_content_encoding"),
        ("POST", "/hf/cells", {"Host": "elsewhere.example"}, "host_not_allowed"),
    ]:
        answer = api.request(method, path, headers=headers)
        assert answer.json()["error"].startswith(f"{code}: "), answer.text


def test_quotas_and_scopes_act_as_for_predict(parts: Parts, address: str, api: httpx.Client, make_png: MakePng) -> None:
    """The last test of this module: after the first token, callers need one."""
    tokens = parts.app.state.tokens
    _, limited = tokens.create("limited", ("predict",), quotas=Quotas(requests_per_minute=2))
    _, trainer = tokens.create("trainer", ("train",))
    for route in ("/hf/cells", "/invocations?adapter=cells", "/predict?adapter=cells"):
        assert api.post(route, content=make_png()).status_code == 401
        assert api.post(route, headers={"Authorization": f"Bearer {trainer}"}).json()["code"] == "scope_missing"
    statuses = [
        api.post("/hf/cells", content=make_png(), headers={"Authorization": f"Bearer {limited}"}) for _ in range(3)
    ]
    assert [answer.status_code for answer in statuses] == [200, 200, 429]
    assert statuses[2].json()["error"].startswith("quota_exceeded: ")
    _, few = tokens.create("few", ("predict",), quotas=Quotas(pixels_per_minute=3 * 48 * 40))
    body = {"inputs": base64.b64encode(make_png()).decode()}
    answers = [api.post("/hf/cells", json=body, headers={"Authorization": f"Bearer {few}"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert api.get("/ping").status_code == 200
    _, reader = tokens.create("reader1", ("predict",))
    client = InferenceClient(model=f"{address}/hf/cells", token=reader)
    assert client.image_classification(make_png())[0].label in "ab"
