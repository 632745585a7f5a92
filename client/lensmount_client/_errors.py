"""Everything that can go wrong, as one tree; what has nothing below it stands in a row under its parent.

    LensmountError
    ├── LocalError                  found here, nothing was sent
    │     InvalidInput, InvalidSettings, InsecureTransport
    ├── CannotWrite                 a file on this machine cannot be written
    ├── TransportError              no whole answer came
    │   │ ServerUnreachable
    │   └── TimedOut                this side gave up waiting
    │         WaitTimeout
    ├── AnswerError                 an answer came and cannot be accepted
    │     AdapterMismatch, DownloadMismatch, ResponseTooLarge, UnexpectedResponse
    ├── JobEnded                    `Job.wait` saw its end, and no adapter
    │     JobCancelled, JobFailed
    └── ProblemError                the server says no
        │ HostNotAllowed, MethodNotAllowed, NotAcceptable, RequestTimeout, Unauthorized
        ├── BadRequest              400
        │     MultipartMalformed, MultipartTruncated
        ├── Forbidden               403
        │     OriginNotAllowed
        ├── NotFound                404
        │     AdapterNotFound, AliasNotFound, DatasetNotFound, FileNotFound, JobNotFound, VersionNotFound
        ├── Conflict                409
        │     BackboneMismatch, CancelRequested, DatasetInUse, GateStale, JobFinished, JobNotFinished, LeaseLost,
        │     UploadOffsetMismatch
        ├── Gone                    410
        │     DatasetGone, VersionDeleted
        ├── TooLarge                413, 414, 431
        │   │ BatchTooLarge, BodyTooLarge, DatasetTooLarge, HeadersTooLarge, UriTooLong, ZipTooLarge
        │   ├── AdapterTooLarge
        │   │     AdapterHeaderTooLarge, AdapterTooManyTensors, RankTooLarge
        │   └── ImageTooLarge
        │         ImageTooManyFrames, VolumeTooLarge
        ├── Unsupported             415
        │   │ UnsupportedAdapterFormat, UnsupportedContentEncoding
        │   └── UnsupportedImageFormat
        │         UnsupportedVolumeFormat
        ├── Unprocessable           422
        │   │ DigestMismatch, DuplicatePart, ExpectedFile, IdempotencyKeyReuse, InvalidName, InvalidReference,
        │   │ InvalidRequest, MissingPart, SingleImageRequired, TooManyRegions, TrainingFailed
        │   ├── AdapterRejected     the adapter file
        │   │   │ AdapterInvalid, AdapterIncomplete, AdapterNoEffect, AdapterNormLimit, AdapterNotFinite,
        │   │   │ AdapterOverflow, AdapterShapeMismatch, AdapterUnknownTarget, HeadMismatch, HeadMissing,
        │   │   │ ManifestInvalid, ManifestMissing, PreprocessingMismatch, UnsupportedDtype
        │   │   └── AdapterMalformed
        │   │         AdapterEmpty, EmptyTensor
        │   ├── DatasetRejected     the dataset
        │   │     DatasetInvalid, DatasetTooSmall, DatasetUnreadable, ZipBadPath, ZipDuplicateName, ZipEncrypted,
        │   │     ZipMalformed, ZipMethodNotSupported, ZipOverlap, ZipSizeMismatch, ZipSymlink
        │   └── ImageRejected       the image or volume
        │       │ UnsupportedColorMode
        │       ├── ImageEmpty
        │       │     VolumeEmpty
        │       ├── ImageInvalid
        │       │     VolumeInvalid
        │       └── ImageTruncated
        │             VolumeTruncated
        ├── Busy                    429
        │     JobsFull, QueueFull
        └── ServerFailed            500 and above
            │ DeadlineExceeded, InternalError, StorageFull
            └── Unavailable         503
                  AdapterCorrupt, DatasetCorrupt, Draining, ForwardFailed, IntegrityViolated, OutputNotFinite,
                  StoreUnavailable, SwapFailed

Each error has a stable `code`. A `ProblemError` carries the server's whole `problem` besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lensmount_client._types.jobs import JobInfo


class LensmountError(Exception):
    """`except LensmountError as error: print(error.code, error)` catches whatever this package raises."""

    code: str = "error"
    request_id: str | None = None

    def __init_subclass__(cls, code: str | None = None) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code


# From here on, tables: one class a line, two where it is long. The usual format would take three times as many lines.
# ruff: noqa: E701
# fmt: off
class LocalError(LensmountError): """Found on this machine, before any request."""
class InvalidInput(LocalError, code="invalid_input"):
    """An image, adapter file or argument that cannot be sent: missing, a folder, empty, float pixels."""
class InvalidSettings(LocalError, code="invalid_settings"): """An address, token or number that cannot be used."""
class InsecureTransport(LocalError, code="insecure_transport"):
    """A token would travel unencrypted to another machine. Use https:// or `insecure=True`."""

class CannotWrite(LensmountError, code="cannot_write"): """A file on this machine cannot be written."""
class TransportError(LensmountError): """No whole answer came back."""
class ServerUnreachable(TransportError, code="server_unreachable"):
    """Nobody listens at the address, or the connection broke. Sent again up to `retries` times."""
class TimedOut(TransportError, code="timed_out"):
    """The server took longer than `Timeout` allows. Not sent again: it may well be working on it."""
class WaitTimeout(TimedOut, code="wait_timeout"): """The job did not end within `timeout_s` of `wait`; it goes on."""
# fmt: on


class AnswerError(LensmountError):
    """An answer came and cannot be accepted."""

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id)  # both, so that the error survives pickling
        self.request_id = request_id

    def __str__(self) -> str:
        return str(self.args[0])


# fmt: off
class UnexpectedResponse(AnswerError, code="unexpected_response"):
    """Not what a lensmount server says: a proxy's page, a redirect, a missing field."""
class ResponseTooLarge(AnswerError, code="response_too_large"): """The answer is longer than `max_response_bytes`."""
class AdapterMismatch(AnswerError, code="adapter_mismatch"): """Another adapter, version or digest than asked for."""
class DownloadMismatch(AnswerError, code="download_mismatch"):
    """The bytes of a dataset or of a job's file do not have the digest that the server states."""
# fmt: on


class JobEnded(LensmountError):
    """A job that was waited for ended without an adapter; `error.job` is what the server says of it."""

    def __init__(self, message: str, job: JobInfo) -> None:
        super().__init__(message, job)  # both, so that the error survives pickling
        self.job = job

    def __str__(self) -> str:
        return str(self.args[0])


class JobCancelled(JobEnded, code="job_cancelled"):
    """Somebody cancelled it; `retry` starts it again."""


class JobFailed(JobEnded, code="job_failed"):
    """Its last attempt failed; `error.code` is the code that the worker left, `error.job.error` says why."""

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


# Filled by the classes below, each of which names its code. `status` is for the codes of a newer server, and for
# proxies, which send none.
CLASS_OF_CODE: dict[str, type[ProblemError]] = {}
CLASS_OF_STATUS: dict[int, type[ProblemError]] = {}


class ProblemError(LensmountError):
    """`error.problem` is the server's whole answer; the usual parts stand on the error itself."""

    def __init_subclass__(cls, code: str | None = None, status: int | None = None) -> None:
        super().__init_subclass__(code)
        if code is not None:
            CLASS_OF_CODE.setdefault(code, cls)
        if status is not None:
            CLASS_OF_STATUS.setdefault(status, cls)

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


# fmt: off
class HostNotAllowed(ProblemError, code="host_not_allowed", status=421):
    """Without a token the server answers only to the names of its own machine."""
class MethodNotAllowed(ProblemError, code="method_not_allowed", status=405): """This address has other methods only."""
class NotAcceptable(ProblemError, code="not_acceptable", status=406):
    """No form of the answer that was asked for, such as masks of an adapter of labels."""
class RequestTimeout(ProblemError, code="request_timeout", status=408): """The body took too long. Sent again."""
class Unauthorized(ProblemError, code="unauthorized", status=401): """No token, or one that the server does not know."""

class BadRequest(ProblemError, code="bad_request", status=400): """The request cannot be understood."""
class MultipartMalformed(BadRequest, code="multipart_malformed"): """The multipart body cannot be taken apart."""
class MultipartTruncated(BadRequest, code="multipart_truncated"): """The multipart body ends before its last part."""

class Forbidden(ProblemError, status=403): """Known, and not allowed."""
class OriginNotAllowed(Forbidden, code="origin_not_allowed"): """A web page of another origin sent the request."""

class NotFound(ProblemError, code="not_found", status=404): """Nothing stands at this address."""
class AdapterNotFound(NotFound, code="adapter_not_found"): """No adapter has this name."""
class AliasNotFound(NotFound, code="alias_not_found"): """The adapter has no such alias."""
class DatasetNotFound(NotFound, code="dataset_not_found"): """No dataset has this name, or not this version."""
class FileNotFound(NotFound, code="file_not_found"): """The job has left no file of this name."""
class JobNotFound(NotFound, code="job_not_found"): """No job has this id."""
class VersionNotFound(NotFound, code="version_not_found"): """The adapter has no such version or digest."""

class Conflict(ProblemError, status=409): """The request does not fit the state of the server."""
class BackboneMismatch(Conflict, code="backbone_mismatch"): """The adapter was made for another backbone."""
class CancelRequested(Conflict, code="job_cancelled"): """A worker would publish for a job that is to be cancelled."""
class DatasetInUse(Conflict, code="dataset_in_use"):
    """A job that has not ended needs the dataset. Cancel it, or delete later."""
class GateStale(Conflict, code="gate_stale"): """Another version was published while a worker judged its own."""
class JobFinished(Conflict, code="job_finished"): """The job has ended already; there is nothing to cancel."""
class JobNotFinished(Conflict, code="job_not_finished"): """Only a failed or cancelled job can be tried again."""
class LeaseLost(Conflict, code="lease_lost"): """A worker spoke for a job that is no longer its own."""

class Gone(ProblemError, status=410): """Was here, is no more."""
class DatasetGone(Gone, code="dataset_gone"): """The dataset, or this version of it, was deleted."""
class VersionDeleted(Gone, code="version_deleted"): """The version existed and was deleted."""

class TooLarge(ProblemError, status=413): """Over a limit; `error.problem.limit` says which."""
class BatchTooLarge(TooLarge, code="batch_too_large"): """More images or adapters than one request may have."""
class BodyTooLarge(TooLarge, code="body_too_large"): """The request body is over the server's limit."""
class DatasetTooLarge(TooLarge, code="dataset_too_large"): """More images or classes than the server trains on."""
class HeadersTooLarge(TooLarge, code="headers_too_large", status=431): """Too many headers, or too many bytes."""
class UriTooLong(TooLarge, code="uri_too_long", status=414): """The address has too many bytes."""
class ZipTooLarge(TooLarge, code="zip_too_large"): """The zip has too many bytes or files, packed or unpacked."""

class AdapterTooLarge(TooLarge, code="adapter_too_large"): """The adapter file is over the server's limit."""
class AdapterHeaderTooLarge(AdapterTooLarge, code="adapter_header_too_large"): """Its header is over the limit."""
class AdapterTooManyTensors(AdapterTooLarge, code="adapter_too_many_tensors"): """More tensors than the server takes."""
class RankTooLarge(AdapterTooLarge, code="rank_too_large"): """A rank over the server's limit."""

class ImageTooLarge(TooLarge, code="image_too_large"): """The image has more bytes or pixels than the server decodes."""
class ImageTooManyFrames(ImageTooLarge, code="image_too_many_frames"): """An animation or a stack of images."""
class VolumeTooLarge(ImageTooLarge, code="volume_too_large"): """More bytes or voxels than the server decodes."""

class Unsupported(ProblemError, status=415): """A format that the server does not read."""
class UnsupportedAdapterFormat(Unsupported, code="unsupported_adapter_format"): """Not a safetensors file."""
class UnsupportedContentEncoding(Unsupported, code="unsupported_content_encoding"): """A compressed body."""

class UnsupportedImageFormat(Unsupported, code="unsupported_image_format"): """Not an image format that is read."""
class UnsupportedVolumeFormat(UnsupportedImageFormat, code="unsupported_volume_format"): """Not a volume format."""

class Unprocessable(ProblemError, status=422): """Understood, and wrong."""
class DigestMismatch(Unprocessable, code="digest_mismatch"): """Other bytes arrived than the digest promises."""
class DuplicatePart(Unprocessable, code="duplicate_part"): """The multipart body has a part twice."""
class ExpectedFile(Unprocessable, code="expected_file"): """A multipart field holds a text where a file belongs."""
class IdempotencyKeyReuse(Unprocessable, code="idempotency_key_reuse"): """The key belongs to another job."""
class InvalidName(Unprocessable, code="invalid_name"): """Adapter names match `[a-z0-9][a-z0-9._-]{0,63}`."""
class InvalidReference(Unprocessable, code="invalid_reference"):
    """A reference is `name`, `name@3`, `name@sha256:<64 hex>` or `name:alias`."""
class InvalidRequest(Unprocessable, code="invalid_request"):
    """A parameter or body field is wrong; `error.problem.errors` lists them."""
class MissingPart(Unprocessable, code="missing_part"): """The multipart body lacks a part."""
class SingleImageRequired(Unprocessable, code="single_image_required"): """Masks are for one image and one adapter."""
class TooManyRegions(Unprocessable, code="too_many_regions"): """Too many outlines. Ask for masks instead."""
class TrainingFailed(Unprocessable, code="training_failed"): """These training settings cannot be carried out."""

class AdapterRejected(Unprocessable): """The server judged the adapter file and does not admit it."""
class AdapterInvalid(AdapterRejected, code="adapter_invalid"): """The manifest does not say what it must."""
class AdapterIncomplete(AdapterRejected, code="adapter_incomplete"): """A tensor lacks its partner."""
class AdapterNoEffect(AdapterRejected, code="adapter_no_effect"): """The adapter would change nothing."""
class AdapterNormLimit(AdapterRejected, code="adapter_norm_limit"): """A change far larger than the weights."""
class AdapterNotFinite(AdapterRejected, code="adapter_not_finite"): """NaN or infinity among the values."""
class AdapterOverflow(AdapterRejected, code="adapter_overflow"): """A merged weight is too large for its data type."""
class AdapterShapeMismatch(AdapterRejected, code="adapter_shape_mismatch"): """A tensor has a wrong shape."""
class AdapterUnknownTarget(AdapterRejected, code="adapter_unknown_target"): """A module that is not in the backbone."""
class HeadMismatch(AdapterRejected, code="head_mismatch"): """The head does not fit the labels or the backbone."""
class HeadMissing(AdapterRejected, code="head_missing"): """The file has no head."""
class ManifestInvalid(AdapterRejected, code="manifest_invalid"): """The manifest cannot be read or lacks a field."""
class ManifestMissing(AdapterRejected, code="manifest_missing"): """The file has no manifest."""
class PreprocessingMismatch(AdapterRejected, code="preprocessing_mismatch"): """Its images are prepared differently."""
class UnsupportedDtype(AdapterRejected, code="unsupported_dtype"): """A tensor is not F32, F16 or BF16."""

class AdapterMalformed(AdapterRejected, code="adapter_malformed"): """Not a sound safetensors file."""
class AdapterEmpty(AdapterMalformed, code="adapter_empty"): """The file holds no tensor."""
class EmptyTensor(AdapterMalformed, code="empty_tensor"): """A tensor has no elements."""

class DatasetRejected(Unprocessable): """The server judged the dataset and does not take it."""
class DatasetInvalid(DatasetRejected, code="dataset_invalid"):
    """The folders or the manifest do not say what they must; the message names the row."""
class DatasetTooSmall(DatasetRejected, code="dataset_too_small"): """Too few classes, or too few images of one."""
class DatasetUnreadable(DatasetRejected, code="dataset_unreadable"): """Too many of its images cannot be decoded."""
class ZipBadPath(DatasetRejected, code="zip_bad_path"): """A name leaves the archive, or fits no file system."""
class ZipDuplicateName(DatasetRejected, code="zip_duplicate_name"): """Two entries have one name, but for case."""
class ZipEncrypted(DatasetRejected, code="zip_encrypted"): """The zip asks for a password."""
class ZipMalformed(DatasetRejected, code="zip_malformed"): """Not a sound zip file."""
class ZipMethodNotSupported(DatasetRejected, code="zip_method_not_supported"): """A compression that is not unpacked."""
class ZipOverlap(DatasetRejected, code="zip_overlap"): """Entries share bytes, as in a zip bomb."""
class ZipSizeMismatch(DatasetRejected, code="zip_size_mismatch"): """An entry's size or checksum is wrong."""
class ZipSymlink(DatasetRejected, code="zip_symlink"): """An entry is a symbolic link or another special file."""

class ImageRejected(Unprocessable): """The server cannot use the image."""
class UnsupportedColorMode(ImageRejected, code="unsupported_color_mode"): """Colours that are not converted."""

class ImageEmpty(ImageRejected, code="image_empty"): """No bytes, or no pixels."""
class VolumeEmpty(ImageEmpty, code="volume_empty"): """No bytes, or no voxels."""

class ImageInvalid(ImageRejected, code="image_invalid"): """The bytes are no decodable image."""
class VolumeInvalid(ImageInvalid, code="volume_invalid"): """The bytes are no decodable volume."""

class ImageTruncated(ImageRejected, code="image_truncated"): """The file ends before the image does."""
class VolumeTruncated(ImageTruncated, code="volume_truncated"): """The file ends before the volume does."""

class Busy(ProblemError, status=429): """Come back later. Sent again after Retry-After."""
class JobsFull(Busy, code="jobs_full"): """As many jobs wait as the server takes."""
class QueueFull(Busy, code="queue_full"): """The server's queue is full."""

class ServerFailed(ProblemError): """500 and above: the server's fault."""
class DeadlineExceeded(ServerFailed, code="deadline_exceeded", status=504): """The answer would have come too late."""
class InternalError(ServerFailed, code="internal_error"): """A bug in the server; its log has the request id."""
class StorageFull(ServerFailed, code="storage_full", status=507): """The server's disk is full."""

class Unavailable(ServerFailed, status=503): """Not now. Sent again after Retry-After."""
class AdapterCorrupt(Unavailable, code="adapter_corrupt"): """The stored adapter no longer has its digest."""
class DatasetCorrupt(Unavailable, code="dataset_corrupt"): """The stored dataset no longer has its digest."""
class Draining(Unavailable, code="draining"): """The server is shutting down."""
class ForwardFailed(Unavailable, code="forward_failed"): """The network could not be run on this input."""
class IntegrityViolated(Unavailable, code="integrity_violated"): """The weights in memory have changed."""
class OutputNotFinite(Unavailable, code="output_not_finite"): """The network answered NaN or infinity."""
class StoreUnavailable(Unavailable, code="store_unavailable"): """The server cannot reach its database or its files."""
class SwapFailed(Unavailable, code="swap_failed"): """The adapter could not be mounted; the backbone was restored."""
# fmt: on


class UploadOffsetMismatch(Conflict, code="upload_offset_mismatch"):
    """The server has another number of bytes of this upload: `error.received`. Pushing again goes on from there."""

    @property
    def received(self) -> int | None:
        received = self.problem.more.get("received")
        return received if isinstance(received, int) and not isinstance(received, bool) else None
