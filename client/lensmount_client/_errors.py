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
    │       └── WaitTimeout             for a job, which goes on
    ├── AnswerError                     an answer came and cannot be accepted
    │   ├── UnexpectedResponse          not what a lensmount server says (a proxy's page, a redirect)
    │   ├── ResponseTooLarge            more bytes than max_response_bytes
    │   ├── AdapterMismatch             another adapter, version or digest than the one asked for
    │   └── DownloadMismatch            a dataset or file of a job came with other bytes than promised
    ├── JobEnded                        `Job.wait` saw its end, and no adapter
    │   ├── JobCancelled
    │   └── JobFailed
    └── ProblemError                    the server says no
        ├── BadRequest                  400
        │   ├── MultipartMalformed
        │   └── MultipartTruncated
        ├── Unauthorized                401
        ├── Forbidden                   403
        │   └── OriginNotAllowed
        ├── NotFound                    404
        │   ├── AdapterNotFound
        │   ├── AliasNotFound
        │   ├── DatasetNotFound
        │   ├── JobNotFound
        │   └── VersionNotFound
        ├── MethodNotAllowed            405
        ├── NotAcceptable               406
        ├── RequestTimeout              408
        ├── Conflict                    409
        │   ├── BackboneMismatch
        │   ├── DatasetInUse
        │   ├── JobFinished
        │   ├── JobNotFinished
        │   ├── LeaseLost
        │   └── UploadOffsetMismatch
        ├── Gone                        410
        │   ├── DatasetGone
        │   └── VersionDeleted
        ├── TooLarge                    413
        │   ├── AdapterTooLarge
        │   ├── BatchTooLarge
        │   ├── BodyTooLarge
        │   ├── ImageTooLarge
        │   └── ZipTooLarge
        ├── Unsupported                 415
        │   ├── UnsupportedAdapterFormat
        │   ├── UnsupportedContentEncoding
        │   └── UnsupportedImageFormat
        ├── HostNotAllowed              421
        ├── Unprocessable               422
        │   ├── DigestMismatch
        │   ├── DuplicatePart
        │   ├── ExpectedFile
        │   ├── IdempotencyKeyReuse
        │   ├── InvalidName
        │   ├── InvalidReference
        │   ├── InvalidRequest
        │   ├── MissingPart
        │   ├── AdapterRejected         any other adapter_*
        │   │   ├── AdapterInvalid
        │   │   ├── AdapterMalformed
        │   │   ├── AdapterNoEffect
        │   │   ├── AdapterNotFinite
        │   │   └── AdapterUnknownTarget
        │   ├── DatasetRejected         any other dataset_* or zip_*
        │   │   ├── DatasetInvalid
        │   │   ├── DatasetTooSmall
        │   │   ├── DatasetUnreadable
        │   │   ├── ZipBadPath
        │   │   ├── ZipDuplicateName
        │   │   ├── ZipEncrypted
        │   │   ├── ZipMalformed
        │   │   ├── ZipMethodNotSupported
        │   │   ├── ZipOverlap
        │   │   ├── ZipSizeMismatch
        │   │   └── ZipSymlink
        │   └── ImageRejected           any other image_*
        │       ├── ImageEmpty
        │       ├── ImageInvalid
        │       └── ImageTruncated
        ├── Busy                        429
        │   ├── JobsFull
        │   └── QueueFull
        └── ServerFailed                500 and above
            ├── InternalError
            ├── Unavailable             503
            │   ├── AdapterCorrupt
            │   ├── Draining
            │   ├── ForwardFailed
            │   ├── OutputNotFinite
            │   ├── StoreUnavailable
            │   └── SwapFailed
            ├── DeadlineExceeded        504
            └── StorageFull             507

Each error has a stable `code`. A `ProblemError` carries the server's whole `problem` besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._job_info import JobInfo


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


class WaitTimeout(TimedOut):
    """The job did not end within the `timeout_s` of `wait`; it goes on."""

    code = "wait_timeout"


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


class DownloadMismatch(AnswerError):
    """The bytes of a dataset or of a job's file do not have the digest that the server states."""

    code = "download_mismatch"


class JobEnded(LensmountError):
    """A job that was waited for ended without an adapter; `error.job` is what the server says of it."""

    def __init__(self, message: str, job: JobInfo) -> None:
        super().__init__(message, job)  # both, so that the error survives pickling
        self.job = job

    def __str__(self) -> str:
        return str(self.args[0])


class JobCancelled(JobEnded):
    """Somebody cancelled it; `retry` starts it again."""

    code = "job_cancelled"


class JobFailed(JobEnded):
    """Its last attempt failed; `error.code` is the code that the worker left, `error.job.error` says why."""

    code = "job_failed"

    def __init__(self, message: str, job: JobInfo) -> None:
        super().__init__(message, job)
        if job.error is not None:
            self.code = job.error.code


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
    more: Mapping[str, Any] = field(default_factory=dict)  # whatever else the document says


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


class MultipartTruncated(BadRequest):
    """The multipart body ends before its last part does."""


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


class DatasetNotFound(NotFound):
    """No dataset has this name, or not this version."""


class JobNotFound(NotFound):
    """No job has this id."""


class VersionNotFound(NotFound):
    """The adapter has no such version or digest."""


class NotAcceptable(ProblemError):
    """406: no form of the answer that was asked for, such as masks of an adapter of labels."""


class MethodNotAllowed(ProblemError):
    """405: this address knows other methods only."""


class RequestTimeout(ProblemError):
    """408: the server waited too long for the body. Sent again."""


class Conflict(ProblemError):
    """409: the request does not fit the state of the server."""


class BackboneMismatch(Conflict):
    """The adapter was made for another backbone than the one resident in the server."""


class DatasetInUse(Conflict):
    """A job that has not ended needs the dataset: cancel it, or delete later."""


class JobFinished(Conflict):
    """The job has ended already; there is nothing to cancel."""


class JobNotFinished(Conflict):
    """The job waits or runs; only a failed or cancelled one can be tried again."""


class LeaseLost(Conflict):
    """A worker spoke for a job that is no longer its own."""


class UploadOffsetMismatch(Conflict):
    """The server has another number of bytes of this upload: `error.received`. Pushing again goes on from there."""

    @property
    def received(self) -> int | None:
        received = self.problem.more.get("received")
        return received if isinstance(received, int) and not isinstance(received, bool) else None


class Gone(ProblemError):
    """410: was here, is no more."""


class DatasetGone(Gone):
    """The dataset, or this version of it, was deleted."""


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


class ZipTooLarge(TooLarge):
    """The zip has more bytes or files than the server takes, packed or unpacked."""


class Unsupported(ProblemError):
    """415: a format that the server does not read."""


class UnsupportedAdapterFormat(Unsupported):
    """Not a safetensors file."""


class UnsupportedContentEncoding(Unsupported):
    """A compressed body, which the server does not unpack."""


class UnsupportedImageFormat(Unsupported):
    """Not an image format that the server decodes."""


class HostNotAllowed(ProblemError):
    """421: without a token the server answers only to the names of its own machine."""


class Unprocessable(ProblemError):
    """422: understood, and wrong."""


class DigestMismatch(Unprocessable):
    """The server received other bytes than the digest promises."""


class DuplicatePart(Unprocessable):
    """The multipart body has a part twice."""


class ExpectedFile(Unprocessable):
    """A multipart field holds a text where a file belongs."""


class IdempotencyKeyReuse(Unprocessable):
    """This idempotency key stands for a job with other settings."""


class InvalidName(Unprocessable):
    """Adapter names match `[a-z0-9][a-z0-9._-]{0,63}`."""


class InvalidReference(Unprocessable):
    """A reference is `name`, `name@3`, `name@sha256:<64 hex>` or `name:alias`."""


class InvalidRequest(Unprocessable):
    """A parameter or body field is wrong; `error.problem.errors` lists them."""


class MissingPart(Unprocessable):
    """The multipart body lacks a part."""


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


class DatasetRejected(Unprocessable):
    """The server judged the dataset and does not take it."""


class DatasetInvalid(DatasetRejected):
    """The folders or the manifest do not say what they must; the message names the row."""


class DatasetTooSmall(DatasetRejected):
    """Too few classes, or too few images of one."""


class DatasetUnreadable(DatasetRejected):
    """Too many of its images cannot be decoded."""


class ZipBadPath(DatasetRejected):
    """A name in the zip is absolute, leaves the archive, or fits no file system."""


class ZipDuplicateName(DatasetRejected):
    """Two entries have one name, or names that differ only in case."""


class ZipEncrypted(DatasetRejected):
    """The zip asks for a password."""


class ZipMalformed(DatasetRejected):
    """Not a sound zip file."""


class ZipMethodNotSupported(DatasetRejected):
    """A compression that the server does not unpack."""


class ZipOverlap(DatasetRejected):
    """Entries share bytes, as in a zip bomb."""


class ZipSizeMismatch(DatasetRejected):
    """An entry unpacks to another size or checksum than it states."""


class ZipSymlink(DatasetRejected):
    """An entry is a symbolic link or another special file."""


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


class JobsFull(Busy):
    """As many jobs wait as the server takes."""


class QueueFull(Busy):
    """The server's queue is full."""


class ServerFailed(ProblemError):
    """500 and above: the server's fault."""


class InternalError(ServerFailed):
    """500: a bug in the server; its log has the request id."""


class Unavailable(ServerFailed):
    """503: not now. Sent again after Retry-After."""


class AdapterCorrupt(Unavailable):
    """The stored adapter no longer has its digest."""


class Draining(Unavailable):
    """The server is shutting down."""


class ForwardFailed(Unavailable):
    """The network could not be run on this input."""


class OutputNotFinite(Unavailable):
    """The network answered NaN or infinity."""


class StoreUnavailable(Unavailable):
    """The server cannot reach its database or its files."""


class SwapFailed(Unavailable):
    """The adapter could not be mounted; the backbone was restored."""


class DeadlineExceeded(ServerFailed):
    """504: the answer would have come too late."""


class StorageFull(ServerFailed):
    """507: no room for another adapter."""
