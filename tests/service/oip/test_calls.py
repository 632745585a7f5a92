"""Refusals before a message is read; test_grpc_server.py has what clients see."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("grpc", reason='needs gRPC: pip install "lensmount[grpc]"')

from starlette.datastructures import Headers

from lensmount_service.access.identity import Identity, Quotas
from lensmount_service.access.quotas import Meter
from lensmount_service.errors import Unauthorized, Unavailable
from lensmount_service.oip.calls import Calls
from lensmount_service.oip.messages import SERVICE, message
from lensmount_service.oip.receptions import Receptions
from lensmount_service.tracing.tracer import NoTracer
from lensmount_service.turnstile import Turns
from lensmount_service.web.held_bytes import HeldBytes

if TYPE_CHECKING:
    from tests.service.recorded import Recorded

READER = Identity("reader", "k", frozenset({"predict"}), "lab", Quotas(requests_per_minute=60))


class Aborted(Exception):
    pass


class Context:
    def peer(self) -> str:
        return "ipv4:127.0.0.1:5000"

    async def abort(self, status: Any, details: str, metadata: Any) -> None:
        raise Aborted(status.name, details)


class Server:
    """The parts of an app that calls need; its one token is `good`."""

    def __init__(self, held: int = 10**6) -> None:
        self.records: list[Any] = []
        self.refusals: list[tuple[str, int]] = []
        self.headers: list[Headers] = []
        self.read = 0  # messages
        self.meter = Meter(lambda: 0.0)
        self.inference = SimpleNamespace(context=SimpleNamespace(engine=SimpleNamespace(lost="")))
        audit, authenticator = SimpleNamespace(add=self.records.append), SimpleNamespace(identify=self.identify)
        self.state = SimpleNamespace(
            authenticator=authenticator,
            meter=self.meter,
            audit=audit,
            held=HeldBytes(held),
            inference=self.inference,
            tracer=NoTracer(),
            turns=Turns(),
        )
        self.state.refused = lambda code, status: self.refusals.append((code, status))

    async def identify(self, headers: Headers) -> Identity:
        self.headers.append(headers)
        if headers.get("authorization") != "Bearer good":
            raise Unauthorized("found no valid token")
        return READER

    def call(self, method: str, asked: Any, *metadata: tuple[str, str | bytes]) -> Any:
        """What the handler of a unary call answers."""

        async def sent() -> AsyncIterator[bytes]:
            self.read += 1
            yield asked if isinstance(asked, bytes) else asked.SerializeToString()

        async def story() -> Any:
            calls = Calls(SimpleNamespace(state=self.state), Receptions(30.0))  # type: ignore[arg-type]
            details = SimpleNamespace(method=f"/{SERVICE}/{method}", invocation_metadata=metadata)
            handler = await calls.intercept_service(_no_other, details)
            return await handler.stream_unary(sent(), Context())

        return asyncio.run(story())


async def _no_other(details: Any) -> None:
    return None


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer bad"),),
        (("authorization", b"Bearer good"),),
        (("authorization", "Bearer good"),) * 2,
    ],
)
def test_a_caller_who_is_not_known_is_refused_before_the_message_is_read(metadata: Any) -> None:
    server = Server()
    with pytest.raises(Aborted) as told:
        server.call("ServerMetadata", b"", *metadata)
    assert told.value.args == ("UNAUTHENTICATED", "unauthorized: found no valid token")
    assert [(record.action, record.status) for record in server.records] == [("GRPC ServerMetadata", 401)]
    assert server.refusals == [("unauthorized", 401)]
    assert server.read == 0


def test_a_caller_without_the_scope_is_refused_and_noted_by_name() -> None:
    server = Server()
    with pytest.raises(Aborted, match="PERMISSION_DENIED"):
        server.call("RepositoryModelLoad", b"", ("authorization", "Bearer good"))
    assert [(record.actor, record.tenant, record.status) for record in server.records] == [("reader", "lab", 403)]


def test_liveness_needs_no_token_and_its_message_is_not_read() -> None:
    server = Server()
    assert server.call("ServerLive", bytes(1000)).live
    assert (server.headers, server.read) == ([], 0)


def test_a_message_that_is_none_is_refused() -> None:
    server = Server()
    with pytest.raises(Aborted, match=r"INVALID_ARGUMENT.*bad_request"):
        server.call("ModelInfer", b"\xff\xff", ("authorization", "Bearer good"))
    assert server.read == 1


def test_a_call_is_charged_and_one_that_finds_no_memory_is_refunded() -> None:
    good = ("authorization", "Bearer good")
    server = Server()
    server.call("ServerMetadata", message("ServerMetadataRequest")(), good)
    assert server.meter.used(READER) == {"requests_per_minute": 1.0}
    asked = message("ModelInferRequest")(raw_input_contents=[bytes(10**6)])
    with pytest.raises(Aborted, match=r"UNAVAILABLE.*overloaded"):
        server.call("ModelInfer", asked, good)
    assert server.refusals == [("overloaded", 503)]
    assert server.meter.used(READER) == {"requests_per_minute": 1.0}
    assert server.state.held.held == 0


def test_a_fault_of_the_server_is_internal_and_says_nothing() -> None:
    server = Server()
    server.inference.context.engine = None  # whose attributes are missing
    with pytest.raises(Aborted) as told:
        server.call("ServerLive", message("ServerLiveRequest")())
    assert told.value.args[0] == "INTERNAL"
    server.inference.context.engine = SimpleNamespace(lost="gone", lost_error=lambda: Unavailable("gone"))
    with pytest.raises(Aborted, match="UNAVAILABLE"):
        server.call("ServerLive", message("ServerLiveRequest")())


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
METADATA = (("authorization", "Bearer good"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"))


def test_a_call_is_a_child_of_the_caller_s_span(recorded: Recorded) -> None:
    server = Server()
    server.state.tracer = recorded.tracer

    async def index(seen: Any, reference: Any, keys: Any) -> None:
        raise Unavailable("no store")

    server.inference.resolve = index
    server.inference.context.seen_by = lambda identity: SimpleNamespace(identity=identity)
    asked = message("ModelInferRequest")(model_name="secret")
    with pytest.raises(Aborted, match="UNAVAILABLE"):
        server.call("ModelInfer", asked, *METADATA)

    (span,) = recorded.spans()
    assert (span.name, span.kind.name) == (f"{SERVICE}/ModelInfer", "SERVER")
    assert f"{span.context.trace_id:032x}" == TRACE
    told = dict(span.attributes)
    assert len(told.pop("lensmount.request_id")) == 32
    assert told == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 14,
        "error.type": "UNAVAILABLE",
    }


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady"])
def test_a_probe_makes_no_span(recorded: Recorded, method: str) -> None:
    server = Server()
    server.state.tracer = recorded.tracer
    with contextlib.suppress(Aborted):
        server.call(method, message(f"{method}Request")())
    assert recorded.spans() == []


def test_the_metadata_of_a_call_are_keys_of_a_rollout_as_headers_are() -> None:
    server, found = Server(), []

    async def resolve(seen: Any, reference: Any, keys: Any) -> None:
        found.append(keys())
        raise Unavailable("no store")

    server.inference.resolve = resolve
    server.inference.context.seen_by = lambda identity: SimpleNamespace(identity=identity)
    metadata = (("authorization", "Bearer good"), ("patient", "p1"), ("patient", "p2"), ("data-bin", b"\xff"))
    with pytest.raises(Aborted, match="UNAVAILABLE"):
        server.call("ModelInfer", message("ModelInferRequest")(model_name="cells"), *metadata)
    (keys,) = found
    assert (keys.of("header:Patient"), keys.of("header:data-bin"), keys.of("client")) == ("p1", None, "k")
    assert len(keys.of("request")) == 32


def test_calls_enter_in_turns_with_requests_and_a_refused_prediction_waits_next_time() -> None:
    server, good = Server(), ("authorization", "Bearer good")
    entered: list[tuple[str, str]] = []
    turns = server.state.turns
    other, prediction, answered = turns.other, turns.prediction, turns.answered
    turns.other = lambda client: (entered.append(("other", client[0])), other(client))[1]
    turns.prediction = lambda client: (entered.append(("prediction", client[0])), prediction(client))[1]
    turns.answered = lambda client, status: (entered.append((str(status), client[0])), answered(client, status))[1]
    server.call("ServerLive", b"")
    assert entered == []
    server.call("ServerMetadata", b"", good)
    assert entered == [("other", "127.0.0.1")]
    with pytest.raises(Aborted):
        server.call("ModelInfer", b"\xff\xff", good)
    assert entered[1:] == [("prediction", "127.0.0.1"), ("400", "127.0.0.1")]
    with pytest.raises(Aborted):
        server.call("ModelStatistics", b"", ("authorization", "Bearer bad"))
    assert entered[3:] == [("other", "127.0.0.1")]
