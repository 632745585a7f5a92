"""The unchanged clients of Triton against /v2: their scores are those of POST /predict, bit for bit."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from lensmount_adapters.inputs.prepare import prepare

pytest.importorskip("tritonclient.http", reason='needs tritonclient: pip install "lensmount[dev]"')
import tritonclient.http as tritonclient
import tritonclient.http.aio as tritonclient_aio
from tests.service.oip.malformed import malformed
from tritonclient.utils import InferenceServerException

from lensmount_service.web.error_members import ErrorMembers
from lensmount_service.web.problems import CODES, NEVER_SENT, problem

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng
    from tests.service.listening import Listen
    from tests.service.oip.conftest import Served


KEPT: list[Any] = []  # clients that a thread of the server must not collect: gevent closes them in their own thread


@contextmanager
def connected(address: str) -> Iterator[Any]:
    with tritonclient.InferenceServerClient(address) as client:
        KEPT.append(client)
        yield client


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Any]:
    with connected(served.address) as client:
        yield client


def image_input(*images: bytes, module: Any = tritonclient) -> Any:
    tensor = module.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=object))
    return tensor


def base64_input(*images: bytes) -> Any:
    tensor = tritonclient.InferInput("image", [len(images)], "BYTES")
    texts = np.array([base64.b64encode(image).decode() for image in images], dtype=object)
    tensor.set_data_from_numpy(texts, binary_data=False)
    return tensor


def network_input(served: Served, adapter: str, image: bytes, *, binary: bool) -> Any:
    rule = served.http.get(f"/adapters/{adapter}").json()["manifest"]["preprocessing"]
    assert (rule["size"], rule["mean"]) == ([64, 64], [0.5, 0.5, 0.5])
    (values,) = prepare(image, [served.parts.engine.backbone.preprocessing]).inputs.values()
    tensor = tritonclient.InferInput("input", [1, 3, 64, 64], "FP32")
    tensor.set_data_from_numpy(values.numpy()[None], binary_data=binary)
    return tensor


def scores_of(result: Any, *labels: str) -> list[dict[str, float]]:
    return [dict(zip(labels, row, strict=True)) for row in result.as_numpy("scores").tolist()]


FORMS: dict[str, Callable[[Any, Served, bytes], Any]] = {
    "binary": lambda client, served, image: client.infer("tiles", [image_input(image)]),
    "JSON base64": lambda client, served, image: client.infer("tiles", [base64_input(image)]),
    "JSON answer": lambda client, served, image: client.infer(
        "tiles", [image_input(image)], outputs=[tritonclient.InferRequestedOutput("scores", binary_data=False)]
    ),
    "gzip": lambda client, served, image: client.infer(
        "tiles",
        [image_input(image)],
        request_compression_algorithm="gzip",
        response_compression_algorithm="gzip",
    ),
    "deflate": lambda client, served, image: client.infer(
        "tiles",
        [base64_input(image)],
        request_compression_algorithm="deflate",
        response_compression_algorithm="deflate",
    ),
    "tensor": lambda client, served, image: client.infer("tiles", [network_input(served, "tiles", image, binary=True)]),
    "tensor in JSON": lambda client, served, image: client.infer(
        "tiles", [network_input(served, "tiles", image, binary=False)]
    ),
    "async": lambda client, served, image: client.async_infer("tiles", [image_input(image)]).get_result(),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_request_has_the_scores_of_predict(
    form: str, client: Any, served: Served, make_png: MakePng
) -> None:
    image = make_png(3)
    result = FORMS[form](client, served, image)
    assert scores_of(result, "x", "y", "z") == served.predict("tiles", image)


def test_an_image_alone_is_a_request_whose_answer_is_raw_bytes(served: Served, make_png: MakePng) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    answer = served.http.post("/v2/models/tiles/infer", content=make_png(3), headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    length = int(answer.headers["Inference-Header-Content-Length"])
    document = json.loads(answer.content[:length])
    first = document["outputs"][0]
    raw = answer.content[length : length + first["parameters"]["binary_data_size"]]
    (expected,) = served.predict("tiles", make_png(3))
    assert dict(zip("xyz", np.frombuffer(raw, "<f4").tolist(), strict=True)) == expected


def test_a_batch_is_answered_in_order_with_the_best_label_of_each(
    client: Any, served: Served, make_png: MakePng
) -> None:
    images = [make_png(number) for number in range(5)]
    result = client.infer("tiles", [image_input(*images)])
    expected = served.predict("tiles", *images)
    assert scores_of(result, "x", "y", "z") == expected
    assert [each.decode() for each in result.as_numpy("label")] == [
        max(each, key=lambda n: each[n]) for each in expected
    ]


def test_classes_are_the_best_ones_with_value_index_and_label(client: Any, served: Served, make_png: MakePng) -> None:
    asked = [tritonclient.InferRequestedOutput("scores", class_count=2)]
    rows = client.infer("tiles", [image_input(make_png(1))], outputs=asked).as_numpy("scores")
    (expected,) = served.predict("tiles", make_png(1))
    best = sorted(expected, key=lambda label: -expected[label])[:2]
    assert rows.tolist() == [[f"{expected[label]!r}:{'xyz'.index(label)}:{label}".encode() for label in best]]


def test_an_adapter_that_has_trust_says_its_decision(client: Any, served: Served, make_png: MakePng) -> None:
    image = make_png(1)
    decision = served.http.post("/predict?adapter=sure", content=image).json()["trust"]["decision"]
    assert client.infer("sure", [image_input(image)]).as_numpy("decision").tolist() == [decision.encode()]


def test_only_the_requested_outputs_the_id_and_the_bytes_that_answered_come_back(
    client: Any, served: Served, make_png: MakePng
) -> None:
    asked = [tritonclient.InferRequestedOutput("label")]
    result = client.infer(
        "cells",
        [image_input(make_png(1))],
        "prod",
        asked,
        request_id="r-1",
        timeout=5_000_000,
        parameters={"mine": "x"},
    ).get_response()
    stored = served.http.get("/adapters/cells/versions/1").json()
    assert [each["name"] for each in result["outputs"]] == ["label"]
    assert (result["id"], result["model_name"], result["model_version"]) == ("r-1", "cells", "1")
    assert result["parameters"]["digest"] == stored["digest"]
    assert result["parameters"]["backbone"] == served.parts.engine.backbone.fingerprint


def test_versions_aliases_and_digests_are_versions_of_a_model(client: Any, served: Served, make_png: MakePng) -> None:
    digest = served.http.get("/adapters/cells/versions/1").json()["digest"]
    image = make_png(2)
    first, latest = served.predict("cells@1", image), served.predict("cells", image)
    for name, version in [("cells", "1"), ("cells", "prod"), ("cells", digest), ("cells@1", ""), ("cells:prod", "")]:
        assert scores_of(client.infer(name, [image_input(image)], version), "a", "b") == first
    assert scores_of(client.infer("cells", [image_input(image)]), "a", "b") == latest != first


def test_the_server_and_its_models_describe_themselves(client: Any, served: Served) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert {"binary_tensor_data", "classification", "statistics"} <= set(client.get_server_metadata()["extensions"])
    assert client.is_model_ready("cells")
    assert client.is_model_ready("cells", "prod")
    assert not client.is_model_ready("cells", "9")
    assert not client.is_model_ready("nothing")
    metadata = client.get_model_metadata("tiles")
    assert (metadata["name"], metadata["versions"]) == ("tiles", ["1"])
    assert metadata["inputs"][1] == {"name": "input", "datatype": "FP32", "shape": [-1, 3, 64, 64]}
    assert metadata["outputs"][0] == {"name": "scores", "datatype": "FP32", "shape": [-1, 3]}
    config = client.get_model_config("tiles")
    assert config["parameters"]["labels"]["string_value"].split("\n") == ["x", "y", "z"]


def test_an_adapter_is_loaded_listed_unloaded_and_taken_back(
    client: Any, served: Served, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    data = make_adapter(7, ("a", "b"))
    client.load_model("fresh", config="{}", files={"file:1/fresh.safetensors": data})
    assert served.http.get("/adapters/fresh/file").content == data
    assert client.is_model_ready("fresh")
    client.infer("fresh", [image_input(make_png(1))])
    client.unload_model("fresh")
    assert not client.is_model_ready("fresh")
    rows = {(row["name"], row["state"], row["reason"]) for row in client.get_model_repository_index()}
    assert {("fresh", "UNAVAILABLE", "unloaded"), ("tiles", "READY", "")} <= rows
    assert "fresh" not in {row["name"] for row in served.http.post("/v2/repository/index", json={"ready": True}).json()}
    client.load_model("fresh")
    assert client.is_model_ready("fresh")
    client.unload_model("fresh")


def test_the_statistics_count_images_and_failures(client: Any, make_adapter: MakeAdapter, make_png: MakePng) -> None:
    client.load_model("counted", config="{}", files={"file:1/model": make_adapter(8, ("a", "b"))})
    client.infer("counted", [image_input(make_png(1), make_png(2))])
    with pytest.raises(InferenceServerException):
        client.infer("counted", [image_input(b"no image")])
    (shown,) = client.get_inference_statistics("counted")["model_stats"]
    assert (shown["inference_count"], shown["execution_count"]) == (2, 1)
    assert [shown["inference_stats"][name]["count"] for name in ("success", "fail")] == [1, 1]
    assert shown["batch_stats"][0]["batch_size"] == 2
    every = client.get_inference_statistics()["model_stats"]
    assert ("counted", "1") in {(each["name"], each["version"]) for each in every}
    client.unload_model("counted")


def test_the_client_for_asyncio_does_the_same(served: Served, make_png: MakePng) -> None:
    image = make_png(4)

    async def story() -> None:
        async with tritonclient_aio.InferenceServerClient(served.address) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata("tiles"))["name"] == "tiles"
            for packed in (None, "gzip", "deflate"):
                result = await client.infer(
                    "tiles",
                    [image_input(image, module=tritonclient_aio)],
                    response_compression_algorithm=packed,  # not of requests: 2.41 raises NameError there
                )
                assert scores_of(result, "x", "y", "z") == served.predict("tiles", image)
            with pytest.raises(InferenceServerException, match="adapter_not_found"):
                await client.get_model_metadata("nothing")

    asyncio.run(story())


def test_the_client_shows_the_code_of_what_is_refused(client: Any, make_png: MakePng) -> None:
    image = image_input(make_png(1))
    wrong_output = [tritonclient.InferRequestedOutput("logits")]
    refused: list[tuple[str, Callable[[], object]]] = [
        ("adapter_not_found", lambda: client.infer("nothing", [image])),
        ("version_not_found", lambda: client.infer("cells", [image], "9")),
        ("alias_not_found", lambda: client.infer("cells", [image], "nobody")),
        ("invalid_reference", lambda: client.infer("Cells", [image])),
        ("invalid_reference", lambda: client.infer("cells@1", [image], "2")),
        ("invalid_request", lambda: client.infer("cells", [image], outputs=wrong_output)),
        ("invalid_request", lambda: client.infer("cells", [image], timeout=-1)),
        ("unsupported_image_format", lambda: client.infer("cells", [image_input(b"no image")])),
        ("image_empty", lambda: client.infer("cells", [image_input(b"")])),
        ("batch_too_large", lambda: client.infer("cells", [image_input(*[make_png(1)] * 65)])),
        ("not_found", lambda: client.get_log_settings()),
        ("not_found", lambda: client.get_system_shared_memory_status()),
        ("adapter_malformed", lambda: client.load_model("bad", config="{}", files={"file:1/x": b"no adapter"})),
        ("adapter_not_found", lambda: client.unload_model("nothing")),
    ]
    for code, call in refused:
        with pytest.raises(InferenceServerException) as told:
            call()
        assert str(told.value.message()).startswith(f"{code}: "), code


def test_the_client_shows_every_code_that_a_server_can_answer(listen: Listen) -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        code = scope["path"].removeprefix("/v2/models/")
        await problem(CODES[code], code, "found x", "id")(scope, receive, send)

    codes = CODES.keys() - NEVER_SENT
    with listen(ErrorMembers(refuses)) as address, connected(address) as client:
        for code in codes:
            with pytest.raises(InferenceServerException) as told:
                client.get_model_metadata(code)
            assert told.value.message() == f"{code}: found x"
    assert len(codes) > 100


def test_200_malformed_bodies_are_refused_with_a_code_each(served: Served) -> None:
    bodies = list(malformed())
    assert len(bodies) >= 200
    for content, headers in bodies:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = served.http.post("/v2/models/cells/infer", content=content, headers=raw)
        assert 400 <= answer.status_code < 500, (content[:200], headers, answer.text)
        document = answer.json()
        assert document["error"] == f"{document['code']}: {document['detail']}", (content[:200], headers)
    assert served.http.get("/v2/health/ready").json() == {"ready": True}
    assert served.http.get("/health/ready").json()["quarantined"] == 0


def test_paths_and_methods_that_the_protocol_does_not_have_are_errors_that_its_clients_read(served: Served) -> None:
    for method, path, code in [
        ("GET", "/v2/nothing", "not_found"),
        ("DELETE", "/v2/models/cells", "method_not_allowed"),
        ("GET", "/v2/" + "x" * 5000, "uri_too_long"),
    ]:
        answer = served.http.request(method, path)
        assert answer.json()["error"].startswith(f"{code}: "), answer.text
    assert "error" not in served.http.get("/nothing").json()


def test_a_repository_request_that_is_no_json_is_refused(served: Served) -> None:
    for body in (b"[]", b"{", b'{"ready": 1}', b'{"parameters": []}'):
        answer: httpx.Response = served.http.post("/v2/repository/index", content=body)
        assert answer.status_code in (400, 422), body
