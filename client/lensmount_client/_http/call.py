"""One call from its first attempt to its result, without I/O: the clients only send and sleep."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

import httpx

from lensmount_client._errors import LensmountError, ServerUnreachable, TimedOut, UnexpectedResponse
from lensmount_client._http.problem import error_of
from lensmount_client._http.response import Response, Sink
from lensmount_client._http.retry import RetryPolicy

T = TypeVar("T")

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and the function that reads its response. The modules of `_api` have one function per endpoint."""

    method: str
    path: str
    read: Callable[[Response], T]
    params: Mapping[str, str | int] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sink: Sink | None = None
    limit_bytes: int | None = None  # of the response, if it differs from the client's limit
    read_s: float | None = None  # longest silence of the server, for requests that it works on for long
    retried: bool = True
    gone_is_done: bool = False  # of a delete: an attempt may have arrived, and a later one finds nothing

    def httpx_options(self) -> dict[str, Any]:
        """Arguments for `build_request` of both httpx clients."""
        headers = {"Content-Type": self.content_type, **self.headers} if self.content_type else self.headers
        return {"params": self.params, "headers": headers, "content": self.content}


@dataclass(frozen=True)
class Send:
    """Send the call's request once, then `.send(response)` or `.throw(httpx error)` into the generator."""


@dataclass(frozen=True)
class Wait:
    """Sleep for this long, then resume the generator."""

    seconds: float


Attempts = Generator[Send | Wait, Response | None, T]


def send_with_retries(call: Call[T], policy: RetryPolicy, base_url: str) -> Attempts[T]:
    """Yield what to do next; return the call's result. Raises a LensmountError."""
    arrived = False  # an attempt may have, although its answer was lost
    for failures in count(1):
        error, cause = None, None
        try:
            response = yield Send()
        except httpx.RequestError as failure:
            error, cause = transport_error(failure, base_url), failure
            arrived |= not isinstance(failure, NEVER_SENT)
        else:
            assert response is not None, "after Send, the caller must send the Response into the generator"
            if response.ok or (arrived and call.gone_is_done and response.status in (404, 410)):
                return call.read(response)
            error = error_of(response, policy.clock())
        wait_s = policy.wait_s(failures, error) if call.retried else None
        if wait_s is None:
            raise error from cause
        yield Wait(wait_s)
    raise AssertionError("unreachable: count() does not end")


def transport_error(failure: httpx.RequestError, base_url: str) -> LensmountError:
    if isinstance(failure, NEVER_SENT):
        return ServerUnreachable(
            f"no server answers at {base_url} ({_reason(failure)}); start one with `lensmount serve`"
        )
    if isinstance(failure, httpx.TimeoutException):
        return TimedOut(f"{base_url} did not answer in time ({_reason(failure)}). Fix: a longer timeout")
    if isinstance(failure, httpx.DecodingError):
        return UnexpectedResponse(f"{base_url} sent a body that cannot be decoded ({_reason(failure)})")
    return ServerUnreachable(f"the connection to {base_url} broke ({_reason(failure)})")


def _reason(failure: httpx.RequestError) -> str:
    return str(failure) or type(failure).__name__
