"""Everything that can go wrong, as one tree.

    LensmountError
    ├── LocalError                      found here, nothing was sent
    │   ├── InvalidInput                an image or file that cannot be sent
    │   ├── InvalidSettings             an address, token or number that cannot be used
    │   └── InsecureTransport           a token over http:// to another machine
    ├── CannotWrite                     a file on this machine cannot be written
    ├── TransportError                  no whole answer came
    │   ├── ServerUnreachable           nobody listens there, or the connection broke
    │   └── TimedOut                    this side gave up waiting
    ├── AnswerError                     an answer came and cannot be accepted
    │   ├── UnexpectedResponse          not what a lensmount server says (a proxy's page, a redirect)
    │   ├── ResponseTooLarge            more bytes than max_response_bytes
    │   └── AdapterMismatch             another adapter, version or digest than the one asked for
    └── ProblemError                    the server says no
        ├── BadRequest                  400
        │   └── MultipartMalformed
        ├── Unauthorized                401
        ├── Forbidden                   403
        │   └── OriginNotAllowed
        ├── NotFound                    404
        │   ├── AdapterNotFound
        │   ├── AliasNotFound
        │   └── VersionNotFound
        ├── MethodNotAllowed            405
        ├── RequestTimeout              408
        ├── Conflict                    409
        │   └── BackboneMismatch
        ├── Gone                        410
        │   └── VersionDeleted
        ├── TooLarge                    413
        │   ├── AdapterTooLarge
        │   ├── BatchTooLarge
        │   ├── BodyTooLarge
        │   └── ImageTooLarge
        ├── Unsupported                 415
        │   ├── UnsupportedAdapterFormat
        │   ├── UnsupportedContentEncoding
        │   └── UnsupportedImageFormat
        ├── Unprocessable               422
        │   ├── InvalidName
        │   ├── InvalidReference
        │   ├── InvalidRequest
        │   ├── AdapterRejected         any other adapter_*
        │   │   ├── AdapterInvalid
        │   │   ├── AdapterMalformed
        │   │   ├── AdapterNoEffect
        │   │   ├── AdapterNotFinite
        │   │   ├── AdapterUnknownTarget
        │   │   └── DigestMismatch
        │   └── ImageRejected           any other image_*
        │       ├── ImageEmpty
        │       ├── ImageInvalid
        │       └── ImageTruncated
        ├── Busy                        429
        │   └── QueueFull
        └── ServerFailed                500 and above
            ├── Unavailable             503
            │   ├── AdapterCorrupt
            │   ├── Draining
            │   ├── OutputNotFinite
            │   └── SwapFailed
            ├── DeadlineExceeded        504
            └── StorageFull             507

Each error has a stable `code`. A `ProblemError` carries the server's whole `problem` besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class LensmountError(Exception):
    """`except LensmountError as error: print(error.code, error)` catches whatever this package raises."""

    code: str = "error"
    request_id: str | None = None


class LocalError(LensmountError):
    """Found on this machine, before any request."""


class InvalidInput(LocalError):
    """An image, adapter file or argument that cannot be sent: missing, a folder, empty, float pixels."""

    code = "invalid_input"


class InvalidSettings(LocalError):
    """A base URL, token or number that the client cannot be built with."""

    code = "invalid_settings"


class InsecureTransport(LocalError):
    """A token would travel unencrypted to another machine; https:// or `insecure=True` is the cure."""

    code = "insecure_transport"


class CannotWrite(LensmountError):
    """A file on this machine cannot be written: no such folder, no right, no room."""

    code = "cannot_write"


class TransportError(LensmountError):
    """No whole answer came back."""


class ServerUnreachable(TransportError):
    """Nobody listens at the address, or the connection broke. Sent again up to `retries` times."""

    code = "server_unreachable"


class TimedOut(TransportError):
    """The server took longer than `Timeout` allows. Not sent again: it may well be working on it."""

    code = "timed_out"


class AnswerError(LensmountError):
    """An answer came and cannot be accepted."""

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id)  # both, so that the error survives pickling
        self.request_id = request_id

    def __str__(self) -> str:
        return str(self.args[0])


class UnexpectedResponse(AnswerError):
    """Not what a lensmount server says: a proxy's page, a redirect, a missing field."""

    code = "unexpected_response"


class ResponseTooLarge(AnswerError):
    """The answer is longer than `max_response_bytes`."""

    code = "response_too_large"


class AdapterMismatch(AnswerError):
    """The answer is about another adapter, version or digest than the one asked for."""

    code = "adapter_mismatch"


@dataclass(frozen=True)
class Problem:
    """What the server said: RFC 9457 problem details, or what could be saved of something else."""

    status: int
    code: str
    title: str
    detail: str = ""
    request_id: str | None = None
    retry_after_s: float | None = None
    errors: tuple[Any, ...] = ()
    limit: Mapping[str, Any] = field(default_factory=dict)


class ProblemError(LensmountError):
    """`error.problem` is the server's whole answer; the usual parts stand on the error itself."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.code = problem.code
        self.request_id = problem.request_id

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def retry_after_s(self) -> float | None:
        return self.problem.retry_after_s

    def __str__(self) -> str:
        return self.problem.detail or self.problem.title


class BadRequest(ProblemError):
    """400: the request cannot be understood."""


class MultipartMalformed(BadRequest):
    """The multipart body cannot be taken apart."""


class Unauthorized(ProblemError):
    """401: no token, or one that the server does not know."""


class Forbidden(ProblemError):
    """403: known, and not allowed."""


class OriginNotAllowed(Forbidden):
    """A web page of another origin sent the request."""


class NotFound(ProblemError):
    """404: nothing stands at this address."""


class AdapterNotFound(NotFound):
    """No adapter has this name."""


class AliasNotFound(NotFound):
    """The adapter has no such alias."""


class VersionNotFound(NotFound):
    """The adapter has no such version or digest."""


class MethodNotAllowed(ProblemError):
    """405: this address knows other methods only."""


class RequestTimeout(ProblemError):
    """408: the server waited too long for the body. Sent again."""


class Conflict(ProblemError):
    """409: the request does not fit the state of the server."""


class BackboneMismatch(Conflict):
    """The adapter was made for another backbone than the one resident in the server."""


class Gone(ProblemError):
    """410: was here, is no more."""


class VersionDeleted(Gone):
    """The version existed and was deleted."""


class TooLarge(ProblemError):
    """413: over a limit; `error.problem.limit` says which."""


class AdapterTooLarge(TooLarge):
    """The adapter file is over the server's limit."""


class BatchTooLarge(TooLarge):
    """More images or adapters in one request than the server takes."""


class BodyTooLarge(TooLarge):
    """The request body is over the server's limit."""


class ImageTooLarge(TooLarge):
    """The image has more bytes or pixels than the server decodes."""


class Unsupported(ProblemError):
    """415: a format that the server does not read."""


class UnsupportedAdapterFormat(Unsupported):
    """Not a safetensors file."""


class UnsupportedContentEncoding(Unsupported):
    """A compressed body, which the server does not unpack."""


class UnsupportedImageFormat(Unsupported):
    """Not an image format that the server decodes."""


class Unprocessable(ProblemError):
    """422: understood, and wrong."""


class InvalidName(Unprocessable):
    """Adapter names match `[a-z0-9][a-z0-9._-]{0,63}`."""


class InvalidReference(Unprocessable):
    """A reference is `name`, `name@3`, `name@sha256:<64 hex>` or `name:alias`."""


class InvalidRequest(Unprocessable):
    """A parameter or body field is wrong; `error.problem.errors` lists them."""


class AdapterRejected(Unprocessable):
    """The server judged the adapter file and does not admit it."""


class AdapterInvalid(AdapterRejected):
    """The manifest does not say what it must."""


class AdapterMalformed(AdapterRejected):
    """Not a sound safetensors file."""


class AdapterNoEffect(AdapterRejected):
    """The adapter would change nothing."""


class AdapterNotFinite(AdapterRejected):
    """NaN or infinity among the values."""


class AdapterUnknownTarget(AdapterRejected):
    """Names a module that the backbone does not have."""


class DigestMismatch(AdapterRejected):
    """The server received other bytes than the digest promises."""


class ImageRejected(Unprocessable):
    """The server cannot use the image."""


class ImageEmpty(ImageRejected):
    """No bytes, or no pixels."""


class ImageInvalid(ImageRejected):
    """The bytes are no decodable image."""


class ImageTruncated(ImageRejected):
    """The file ends before the image does."""


class Busy(ProblemError):
    """429: come back later. Sent again after Retry-After."""


class QueueFull(Busy):
    """The server's queue is full."""


class ServerFailed(ProblemError):
    """500 and above: the server's fault."""


class Unavailable(ServerFailed):
    """503: not now. Sent again after Retry-After."""


class AdapterCorrupt(Unavailable):
    """The stored adapter no longer has its digest."""


class Draining(Unavailable):
    """The server is shutting down."""


class OutputNotFinite(Unavailable):
    """The network answered NaN or infinity."""


class SwapFailed(Unavailable):
    """The adapter could not be mounted; the backbone was restored."""


class DeadlineExceeded(ServerFailed):
    """504: the answer would have come too late."""


class StorageFull(ServerFailed):
    """507: no room for another adapter."""
