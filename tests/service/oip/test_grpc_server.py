"""The unchanged gRPC clients of Triton: the same models, scores, codes and limits as over REST."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import uvicorn

pytest.importorskip("grpc", reason='needs gRPC: pip install "lensmount[grpc]"')
pytest.importorskip("tritonclient.grpc", reason='needs tritonclient: pip install "lensmount[dev]"')
import grpc
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from lensmount_adapters.inputs.prepare import prepare
from lensmount_service.build import Parts
from lensmount_service.errors import Unavailable
from lensmount_service.oip.grpc_server import GrpcServer
from lensmount_service.settings import Settings
from lensmount_service.web.transport import TransportLimits, protocol_of

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Until

FIRST = {"authorization": "Bearer first"}
MOST = 2**20


@dataclass
class Served:
    """A server with `cells` (a, b) and `tiles` (x, y, z), whose first token is `first`."""

    parts: Parts
    http: httpx.Client
    address: str
    grpc: GrpcServer
    loop: asyncio.AbstractEventLoop

    def predict(self, adapter: str, image: bytes) -> dict[str, float]:
        answer = self.http.post(f"/predict?adapter={adapter}", content=image)
        return {each["label"]: each["score"] for each in answer.json()["predictions"]}


@contextmanager
def serving(parts: Parts, settings: Settings) -> Iterator[Served]:
    """The app behind both servers on one event loop, in a thread."""
    started: queue.Queue[tuple[GrpcServer, asyncio.AbstractEventLoop]] = queue.Queue()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.grpc = GrpcServer(parts.app, settings)
            await self.grpc.start()
            started.put((self.grpc, asyncio.get_running_loop()))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await self.grpc.stop(10.0)
            await super().shutdown(sockets)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(parts.app, http=protocol_of(TransportLimits()), ws="none", log_config=None)
        server = Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            served, loop = started.get(timeout=60)
            url = "http://{}:{}".format(*listener.getsockname())
            with httpx.Client(base_url=url, headers=FIRST) as http:
                yield Served(parts, http, f"127.0.0.1:{served.port}", served, loop)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def served(make_shared_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[Served]:
    with (
        make_shared_parts(token="first", max_request_bytes=MOST) as parts,
        serving(parts, parts.app.state.context.settings) as served,
    ):
        for name, seed, labels in (("cells", 1, ("a", "b")), ("tiles", 2, ("x", "y", "z"))):
            assert served.http.put(f"/adapters/{name}", content=make_adapter(seed, labels)).status_code == 201
        yield served


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(served.address) as client:
        yield client


def image_input(*images: bytes, module: Any = triton) -> Any:
    tensor = module.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=object))
    return tensor


def scores_of(result: Any, *labels: str) -> dict[str, float]:
    (row,) = result.as_numpy("scores").tolist()
    return dict(zip(labels, row, strict=True))


def test_the_server_and_its_models_describe_themselves(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cells", headers=FIRST)
    assert client.get_server_metadata(headers=FIRST).name == "lensmount"
    metadata = client.get_model_metadata("tiles", headers=FIRST)
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [
        ("image", "BYTES", [-1]),
        ("input", "FP32", [-1, 3, 64, 64]),
    ]
    config = client.get_model_config("tiles", "1", headers=FIRST, as_json=True)["config"]
    assert config["output"][0] == {"name": "scores", "data_type": "TYPE_FP32", "dims": ["3"]}


def test_images_and_tensors_have_the_scores_of_predict(client: Any, served: Served, make_png: MakePng) -> None:
    image = make_png(3)
    expected = served.predict("tiles", image)
    (values,) = prepare(image, [served.parts.engine.backbone.preprocessing]).inputs.values()
    tensor = triton.InferInput("input", [1, 3, 64, 64], "FP32")
    tensor.set_data_from_numpy(values.numpy()[None])
    for given in (image_input(image), tensor):
        for packed in (None, "gzip", "deflate"):
            result = client.infer("tiles", [given], headers=FIRST, compression_algorithm=packed)
            assert scores_of(result, "x", "y", "z") == expected


def test_typed_contents_have_the_scores_of_predict(served: Served, make_png: MakePng) -> None:
    image = make_png(3)
    request = service_pb2.ModelInferRequest(model_name="tiles")
    request.inputs.add(name="image", datatype="BYTES", shape=[1], contents={"bytes_contents": [image]})
    with grpc.insecure_channel(served.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, metadata=tuple(FIRST.items()))
    scores = np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()
    assert dict(zip("xyz", scores, strict=True)) == served.predict("tiles", image)


def test_classes_outputs_versions_and_ids_are_those_of_the_request(
    client: Any, served: Served, make_png: MakePng
) -> None:
    image = make_png(1)
    digest = served.http.get("/adapters/tiles").json()["digest"]
    asked = [triton.InferRequestedOutput("scores", class_count=1), triton.InferRequestedOutput("label")]
    result = client.infer("tiles", [image_input(image)], digest, asked, request_id="r1", headers=FIRST, timeout=10**7)
    expected = served.predict("tiles", image)
    best = max(expected, key=lambda label: expected[label])
    assert result.as_numpy("scores").tolist() == [[f"{expected[best]!r}:{'xyz'.index(best)}:{best}".encode()]]
    assert result.as_numpy("label").tolist() == [best.encode()]
    answer = result.get_response()
    assert (answer.id, answer.model_version, answer.parameters["digest"].string_param) == ("r1", "1", digest)


def test_an_adapter_is_loaded_listed_counted_and_unloaded(
    client: Any, served: Served, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    client.load_model("fresh", headers=FIRST, config="{}", files={"file:1/fresh": make_adapter(9, ("a", "b"))})
    client.infer("fresh", [image_input(make_png(1), make_png(2))], headers=FIRST)
    (shown,) = client.get_inference_statistics("fresh", headers=FIRST).model_stats
    assert (shown.name, shown.version, shown.inference_count, shown.execution_count) == ("fresh", "1", 2, 1)
    client.unload_model("fresh", headers=FIRST)
    rows = {(row.name, row.state, row.reason) for row in client.get_model_repository_index(headers=FIRST).models}
    assert {("fresh", "UNAVAILABLE", "unloaded"), ("tiles", "READY", "")} <= rows
    client.load_model("fresh", headers=FIRST)
    client.unload_model("fresh", headers=FIRST)


def test_refusals_have_the_status_of_grpc_and_our_code(client: Any, served: Served, make_png: MakePng) -> None:
    image, junk = image_input(make_png(1)), image_input(b"x")
    bad = {"headers": FIRST, "config": "{}", "files": {"file:1/x": b"x"}}
    body = {"name": "trainer", "scopes": ["train"]}
    trainer = {"authorization": f"Bearer {served.http.post('/tokens', json=body).json()['secret']}"}
    refused: list[tuple[str, str, Callable[[], object]]] = [
        ("NOT_FOUND", "adapter_not_found", lambda: client.infer("nothing", [image], headers=FIRST)),
        ("INVALID_ARGUMENT", "invalid_reference", lambda: client.infer("Cells", [image], headers=FIRST)),
        (("INVALID_ARGUMENT", "unsupported_image_format", lambda: client.infer("cells", [junk], headers=FIRST))),
        ("DEADLINE_EXCEEDED", "deadline_exceeded", lambda: client.infer("cells", [image], headers=FIRST, timeout=1)),
        ("UNAUTHENTICATED", "unauthorized", lambda: client.infer("cells", [image])),
        ("PERMISSION_DENIED", "scope_missing", lambda: client.infer("cells", [image], headers=trainer)),
        ("PERMISSION_DENIED", "scope_missing", lambda: client.unload_model("cells", headers=trainer)),
        ("INVALID_ARGUMENT", "adapter_malformed", lambda: client.load_model("bad", **bad)),
    ]
    for status, code, call in refused:
        with pytest.raises(InferenceServerException) as told:
            call()
        assert (told.value.status(), told.value.message().partition(":")[0]) == (f"StatusCode.{status}", code)
    served.parts.app.state.audit.flush()
    actions = {(each["action"], each["status"]) for each in served.http.get("/audit").json()["records"]}
    assert {("GRPC ModelInfer", 401), ("GRPC ModelInfer", 403), ("GRPC RepositoryModelUnload", 403)} <= actions


def test_a_stream_answers_in_order_and_goes_on_after_an_error(served: Served, make_png: MakePng) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    images = [make_png(1), b"no image", make_png(2)]
    with triton.InferenceServerClient(served.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=FIRST)
        for number, image in enumerate(images):
            client.async_stream_infer("tiles", [image_input(image)], request_id=str(number))
        told = [answers.get(timeout=30) for _ in images]
        client.stop_stream()
    assert told[1][1].message().startswith("unsupported_image_format: ")
    for number in (0, 2):
        assert told[number][0].get_response().id == str(number)
        assert scores_of(told[number][0], "x", "y", "z") == served.predict("tiles", images[number])


def test_the_client_for_asyncio_does_the_same(served: Served, make_png: MakePng) -> None:
    image = make_png(4)
    expected = served.predict("tiles", image)

    async def story() -> None:
        async with triton_aio.InferenceServerClient(served.address) as client:
            assert await client.is_server_ready()
            result = await client.infer("tiles", [image_input(image, module=triton_aio)], headers=FIRST)
            assert scores_of(result, "x", "y", "z") == expected

            async def asked() -> Any:
                for _ in range(3):
                    yield {"model_name": "tiles", "inputs": [image_input(image, module=triton_aio)]}

            streamed = [each async for each in client.stream_infer(asked(), headers=FIRST)]
            assert [scores_of(result, "x", "y", "z") for result, _ in streamed] == [expected] * 3
            with pytest.raises(InferenceServerException, match="adapter_not_found"):
                await client.infer("nothing", [image_input(image, module=triton_aio)], headers=FIRST)

    asyncio.run(story())


def test_streams_of_several_adapters_share_batches(served: Served, make_png: MakePng) -> None:
    before = batches(served)
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    clients = [triton.InferenceServerClient(served.address) for _ in range(8)]
    for client in clients:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=FIRST)
    for _ in range(5):
        for number, client in enumerate(clients):
            client.async_stream_infer(("cells", "tiles")[number % 2], [image_input(make_png(number))])
    told = [answers.get(timeout=60) for _ in range(40)]
    for client in clients:
        client.stop_stream()
        client.close()
    assert [error for _, error in told if error is not None] == []
    images, count = (now - was for now, was in zip(batches(served), before, strict=True))
    assert images == 40
    assert count < 40


def batches(served: Served) -> tuple[float, float]:
    """Images and batches so far."""
    values = {
        line.split()[0]: float(line.split()[1])
        for line in served.http.get("/metrics").text.splitlines()
        if line.startswith("lensmount_batch_size_")
    }
    return values["lensmount_batch_size_sum"], values["lensmount_batch_size_count"]


def test_a_message_beyond_the_limit_is_refused_and_memory_is_given_back(client: Any, served: Served) -> None:
    for packed in (None, "gzip"):
        with pytest.raises(InferenceServerException) as told:
            client.infer("cells", [image_input(bytes(MOST + 1))], headers=FIRST, compression_algorithm=packed)
        assert told.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert served.parts.app.state.held.held == 0


def test_a_call_whose_client_gives_up_leaves_the_queue(served: Served, make_png: MakePng, until: Until) -> None:
    request = service_pb2.ModelInferRequest(model_name="tiles")
    request.inputs.add(name="image", datatype="BYTES", shape=[1], contents={"bytes_contents": [make_png(3)]})
    with grpc.insecure_channel(served.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as told:
            stub.ModelInfer(request, metadata=tuple(FIRST.items()), timeout=0.0001)
    assert told.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: served.parts.engine.waiting == 0)
    until(lambda: served.parts.app.state.held.held == 0)


def test_quotas_count_calls_and_say_when_to_try_again(served: Served) -> None:
    body = {"name": "limited", "scopes": ["predict"], "quotas": {"requests_per_minute": 2}}
    token = served.http.post("/tokens", json=body).json()["secret"]
    with grpc.insecure_channel(served.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = service_pb2.ServerMetadataRequest()
        metadata = (("authorization", f"Bearer {token}"),)
        for _ in range(2):
            stub.ServerMetadata(asked, metadata=metadata)
        with pytest.raises(grpc.RpcError) as told:
            stub.ServerMetadata(asked, metadata=metadata)
    assert told.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = dict(told.value.trailing_metadata())
    assert (trailing["lensmount-code"], 20 <= int(trailing["retry-after"]) <= 30) == ("quota_exceeded", True)


def test_tools_find_the_services_and_their_health(served: Served) -> None:
    with grpc.insecure_channel(served.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) >= {"inference.GRPCInferenceService", "grpc.health.v1.Health"}
        found = database.FindFileContainingSymbol("inference.ModelInferRequest")
        assert "ModelInferResponse" in {each.name for each in found.message_type}
        assert database.FindFileContainingSymbol("grpc.health.v1.Health").package == "grpc.health.v1"
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_method_that_the_protocol_does_not_have_is_unimplemented(client: Any) -> None:
    with pytest.raises(InferenceServerException) as told:
        client.get_log_settings(headers=FIRST)
    assert told.value.status() == "StatusCode.UNIMPLEMENTED"


def test_a_taken_port_is_told_with_the_flag_that_helps(served: Served) -> None:
    taken = Settings(grpc_port=served.grpc.port)

    async def again() -> None:
        GrpcServer(served.parts.app, taken)

    with pytest.raises(Unavailable, match="choose another port with --grpc-port"):
        asyncio.run_coroutine_threadsafe(again(), served.loop).result(30)


def test_an_idle_stream_ends_when_the_server_stops(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with make_parts(token="first") as parts, serving(parts, parts.app.state.context.settings) as served:
        served.http.put("/adapters/tiles", content=make_adapter(2, ("x", "y", "z")))
        client = triton.InferenceServerClient(served.address)
        client.start_stream(lambda result, error: answers.put((result, error)), headers=FIRST)
        client.async_stream_infer("tiles", [image_input(make_png(1))])
        assert answers.get(timeout=30)[1] is None
        asyncio.run_coroutine_threadsafe(served.grpc.stop(60.0), served.loop).result(20)
        _, error = answers.get(timeout=30)
        client.close()
    assert error.message().startswith("draining: ")
