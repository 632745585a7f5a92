"""Every gRPC call comes through here: who calls, what they may do and use, how errors are told, and what is logged."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
import structlog
from fastapi import FastAPI
from google.protobuf.message import DecodeError
from starlette.datastructures import Headers

from lensmount_service.access.audit import AuditLog, Record
from lensmount_service.access.authenticator import Authenticator
from lensmount_service.access.guard import require
from lensmount_service.access.quotas import Charge, Meter
from lensmount_service.errors import QueueFull, RequestError, Unavailable
from lensmount_service.oip.grpc_status import Refusal, refusal_of
from lensmount_service.oip.messages import SERVICE, message, pool
from lensmount_service.oip.receptions import Receptions
from lensmount_service.oip.servicer import IN_STREAMS, NEEDS, PREDICTION, WRITES, Call, Servicer
from lensmount_service.tracing.middleware import CARRIED, carrier_of
from lensmount_service.tracing.span import REQUEST_ID, Span, Value, entered
from lensmount_service.tracing.tracer import Tracer
from lensmount_service.turnstile import Client, Turns
from lensmount_service.web.held_bytes import HeldBytes, Holding
from lensmount_service.web.problems import count_refusal

log = structlog.get_logger(__name__)

Continue = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]


class Calls(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """`grpc.aio.server(interceptors=[Calls(app, receptions)])` answers the protocol's service; other services pass by.

    A caller who may not call is refused before the message is read. The event loop's thread owns it.
    """

    def __init__(self, app: FastAPI, receptions: Receptions) -> None:
        self._app, state = app, app.state
        self._authenticator: Authenticator = state.authenticator
        self._meter: Meter = state.meter
        self._audit: AuditLog = state.audit
        self._held: HeldBytes = state.held
        self._tracer: Tracer = state.tracer
        self._turns: Turns = state.turns
        self._receptions = receptions
        self._servicer = Servicer(state.inference)
        self._draining = asyncio.Event()
        service = pool().FindServiceByName(SERVICE)
        self._asked = {method.name: message(method.input_type.name) for method in service.methods}

    def drain(self) -> None:
        """End the streams that wait for their client. What was asked is answered."""
        self._draining.set()

    async def intercept_service(self, continuation: Continue, details: grpc.HandlerCallDetails) -> Any:
        service, _, method = details.method.lstrip("/").rpartition("/")
        if service != SERVICE or method not in NEEDS:
            return await continuation(details)
        metadata = details.invocation_metadata
        if method == IN_STREAMS:
            stream = partial(self._stream, metadata)
            return grpc.stream_stream_rpc_method_handler(stream, response_serializer=_to_bytes)
        unary = partial(self._unary, method, metadata)  # called before the message is read, as that of a stream is
        return grpc.stream_unary_rpc_method_handler(unary, response_serializer=_to_bytes)

    async def _refused(self, call: Call, headers: Headers) -> Refusal | None:
        """Note who calls, or return the refusal of a caller who may not."""
        need = NEEDS[call.method]
        if need is None:
            return None
        try:
            call.identity = await self._authenticator.identify(headers)
            require(call.identity, need)
        except Exception as error:  # the boundary of a call: whatever it is, the caller is told
            refusal = self._refusal(error, call.request_id)
            self._end(call, time.perf_counter(), refusal.http_status)
            return refusal
        return None

    async def _unary(self, method: str, metadata: Any, asked: AsyncIterator[bytes], context: Any) -> Any:
        call, headers = _call(method, metadata), _headers(metadata)
        async with self._entered(method, client := _client(context)):
            told = await self._refused(call, headers)
            if told is None:
                told = await self._told(call, headers, partial(self._received, call, asked))
            if method == PREDICTION:
                self._turns.answered(client, told.http_status if isinstance(told, Refusal) else 200)
        if isinstance(told, Refusal):
            await _refuse(told, context)
        return told

    def _entered(self, method: str, client: Client) -> AbstractAsyncContextManager[None]:
        """In turns with the requests of HTTP."""
        if NEEDS[method] is None:
            return nullcontext()
        return self._turns.prediction(client) if method == PREDICTION else self._turns.other(client)

    async def _received(self, call: Call, asked: AsyncIterator[bytes]) -> Any:
        """The message of a call. One that nobody needs is not read."""
        form = self._asked[call.method]
        if call.identity is None:
            return form()
        data = await self._receptions.read(call.identity.key, partial(_read, asked))
        return _parsed(form, b"" if data is None else data)

    async def _stream(self, metadata: Any, asked: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """One answer for each request, in order. A request that fails has its error in its answer."""
        opened, client = _call(IN_STREAMS, metadata), _client(context)
        refusal = await self._refused(opened, _headers(metadata))
        with ExitStack() as stack:
            if opened.identity is not None and refusal is None:
                try:
                    stack.enter_context(self._receptions.stream(opened.identity.key))
                except QueueFull as full:
                    refusal = self._refusal(full, opened.request_id)
            if refusal is not None:
                await _refuse(refusal, context)
            while (data := await self._next(asked)) is not None:
                yield await self._answer_in_stream(data, metadata, client)
        if self._draining.is_set():
            error = Unavailable("the server is shutting down and ends this stream. Fix: connect again shortly")
            await _refuse(self._refusal(error, opened.request_id), context)

    async def _answer_in_stream(self, data: bytes, metadata: Any, client: Client) -> Any:
        answer, call, headers = message("ModelStreamInferResponse"), _call(PREDICTION, metadata), _headers(metadata)
        request: Any = None
        broken: RequestError | None = None
        try:
            request = _parsed(self._asked[PREDICTION], data)
        except RequestError as error:
            broken = error

        async def received() -> Any:
            if broken is not None:
                raise broken
            return request

        async with self._turns.prediction(client):
            refusal = await self._refused(call, headers)  # a token may be revoked
            told = refusal or await self._told(call, headers, received)
            self._turns.answered(client, told.http_status if isinstance(told, Refusal) else 200)
        if isinstance(told, Refusal):
            return answer(error_message=told.details, infer_response={"id": getattr(request, "id", "")})
        return answer(infer_response=told)

    async def _next(self, asked: AsyncIterator[bytes]) -> bytes | None:
        """The next request of a stream; None at its end, and once the server drains."""
        reading = asyncio.ensure_future(_read(asked))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            draining.cancel()

    async def _told(self, call: Call, headers: Headers, received: Callable[[], Awaitable[Any]]) -> Any:
        """The message that answers, or a Refusal. Cancelled when the client is gone or its deadline is over."""
        if NEEDS[call.method] is None:  # a probe
            return await self._answer_or_refusal(call, received)
        answer = None
        with entered(self._tracer.start("server", carrier_of(headers))) as span:
            try:
                answer = await self._answer_or_refusal(call, received)
                return answer
            finally:
                _end(span, call, answer)

    async def _answer_or_refusal(self, call: Call, received: Callable[[], Awaitable[Any]]) -> Any:
        started = time.perf_counter()
        status = call.http_status
        try:
            answer = await self._answered(call, await received())
            status = 200
            return answer
        except Exception as error:  # as above
            refusal = self._refusal(error, call.request_id)
            status = refusal.http_status
            return refusal
        finally:
            self._end(call, started, status)

    async def _answered(self, call: Call, asked: Any) -> Any:
        """The answer of the servicer, at the cost that the same request has over HTTP."""
        holding = Holding(self._held)
        charges: list[Charge | None] = []
        try:
            size = asked.ByteSize()
            holding.add(size)
            if call.identity is not None:
                charges.append(self._meter.charge(call.identity, "requests_per_minute", 1))
                charges.append(self._meter.charge(call.identity, "bytes_per_minute", size))
            return await self._servicer.answers[call.method](call, asked)
        except (QueueFull, Unavailable):
            for charge in charges:
                self._meter.refund(charge)
            raise
        finally:
            holding.end()

    def _refusal(self, error: Exception, request_id: str) -> Refusal:
        refusal = refusal_of(error, request_id)
        count_refusal(self._app, refusal.code, refusal.http_status)
        return refusal

    def _end(self, call: Call, started: float, status: int) -> None:
        """Log the call, and note a write or the refusal of an identity or a scope in the audit log."""
        identity = call.identity
        log.info(
            "request",
            method="GRPC",
            path=call.method,
            status=status,
            ms=round((time.perf_counter() - started) * 1000, 1),
            request_id=call.request_id,
            tenant=getattr(identity, "tenant", None),
        )
        if call.method in WRITES or status in (401, 403):
            self._audit.add(
                Record(
                    time=round(time.time(), 3),
                    actor="-" if identity is None else identity.actor,
                    tenant="-" if identity is None else identity.tenant,
                    action=f"GRPC {call.method}",
                    target=call.target,
                    digest=None,
                    request_id=call.request_id,
                    status=status,
                )
            )


def _call(method: str, metadata: Any) -> Call:
    texts = ((key, value) for key, value in tuple(metadata or ())[::-1] if isinstance(value, str))
    return Call(method, uuid.uuid4().hex, dict(texts))  # of several of one name, the first, as in HTTP


def _headers(metadata: Any) -> Headers:
    """The caller's token and trace as the headers that HTTP has. No web page can send a gRPC call, so its host is this
    machine.
    """
    found = [(key, value) for key, value in metadata or () if isinstance(value, str)]
    tokens = [value for key, value in found if key == "authorization"]
    token = [("authorization", value) for value in tokens if len(tokens) == 1]
    pairs = [("host", "localhost"), *token, *((key, value) for key, value in found if key in CARRIED)]
    return Headers(raw=[(key.encode(), value.encode("latin-1", "replace")) for key, value in pairs])


def _end(span: Span, call: Call, answer: Any) -> None:
    """With the names of OpenTelemetry's conventions. `answer` is None if the client is gone."""
    code = grpc.StatusCode.CANCELLED if answer is None else grpc.StatusCode.OK
    error = ""
    if isinstance(answer, Refusal):
        code, error = answer.status, answer.status.name if answer.http_status >= 500 else ""
    elif answer is not None:
        span.rest("respond")
    attributes: dict[str, Value] = {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": call.method,
        "rpc.grpc.status_code": code.value[0],
        REQUEST_ID: call.request_id,
    }
    span.end(f"{SERVICE}/{call.method}", attributes, error)


def _client(context: Any) -> Client:
    """The host and the port of the other end, as `ipv4:127.0.0.1:5000` and `ipv6:%5B::1%5D:5000` say it."""
    host, _, port = context.peer().partition(":")[2].rpartition(":")
    return unquote(host).strip("[]"), int(port) if port.isdecimal() else 0


async def _read(asked: AsyncIterator[bytes]) -> bytes | None:
    return await anext(asked, None)


def _parsed(form: Any, data: bytes) -> Any:
    """Raises RequestError."""
    try:
        return form.FromString(data)
    except DecodeError as error:
        raise RequestError(
            "the message cannot be read, expected one of open_inference.proto. Fix: make the stubs of that file again"
        ) from error


async def _refuse(refusal: Refusal, context: Any) -> None:
    await context.abort(refusal.status, refusal.details, refusal.metadata)


def _to_bytes(answer: Any) -> bytes:
    data: bytes = answer.SerializeToString()
    return data
