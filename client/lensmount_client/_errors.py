"""All errors as one tree. Classes without subclasses are listed in rows under their parent.

    LensmountError
    ├── LocalError                  found on this machine, nothing was sent
    │     InvalidInput, InvalidSettings, InsecureTransport, NoLabel
    ├── CannotWrite                 a file on this machine cannot be written
    ├── TransportError              no complete response came
    │   │ ServerUnreachable
    │   └── TimedOut                the client gave up waiting
    │         WaitTimeout
    ├── AnswerError                 a response came and cannot be accepted
    │     AdapterMismatch, DownloadMismatch, ResponseTooLarge, UnexpectedResponse
    ├── JobEnded                    `Job.wait` or `Client.teach` saw the job end without an adapter
    │     JobCancelled, JobFailed, NotPublished
    ├── ReviewFailed                `datasets.review` saw the server give up
    └── ProblemError                the server refused or failed
        │ HostNotAllowed, MethodNotAllowed, NotAcceptable, PreconditionFailed, RequestTimeout, Unauthorized
        ├── BadRequest              400
        │     DuplicateKey, MultipartMalformed, MultipartTruncated
        ├── Forbidden               403
        │     AliasProtected, FeedbackOff, ImageNotKept, OriginNotAllowed, PublicReadOnly, ScopeMissing,
        │     SignatureInvalid, SignatureKeyUnknown, SignatureRequired, SourceNotAllowed
        ├── NotFound                404
        │     AdapterNotFound, AliasNotFound, DatasetNotFound, FileNotFound, JobNotFound, RolloutNotFound,
        │     TokenNotFound, VersionNotFound
        ├── Conflict                409
        │     BackboneMismatch, CancelRequested, DatasetInUse, DraftWouldReplace, GateStale, JobFinished,
        │     JobNotFinished, LeaseLost, PublicNameTaken, UploadOffsetMismatch
        ├── Gone                    410
        │     AuditGone, DatasetGone, VersionDeleted
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
        │   │ DigestMismatch, DuplicatePart, ExpectedFile, ExplanationNotPossible, ExportNotPossible, ExportUnavailable,
        │   │ IdempotencyKeyReuse, InvalidName, InvalidReference, InvalidRequest, MissingPart, RolloutInvalid,
        │   │ SingleImageRequired, SourceUnavailable, TokenExists, TooManyRegions, TrainingFailed, UnknownLabel
        │   ├── AdapterRejected     the adapter file
        │   │   │ AdapterInvalid, AdapterIncomplete, AdapterNoEffect, AdapterNormLimit, AdapterNotFinite,
        │   │   │ AdapterOverflow, AdapterShapeMismatch, AdapterUnknownTarget, HeadMismatch, HeadMissing,
        │   │   │ ManifestInvalid, ManifestMissing, PreprocessingMismatch, TrustMismatch, UnsupportedDtype
        │   │   └── AdapterMalformed
        │   │         AdapterEmpty, EmptyTensor
        │   ├── DatasetRejected     the dataset
        │   │     DatasetInvalid, DatasetTooSmall, DatasetUnreadable, DraftNeedsImages, ZipBadPath, ZipDuplicateName,
        │   │     ZipEncrypted, ZipMalformed, ZipMethodNotSupported, ZipOverlap, ZipSizeMismatch, ZipSymlink
        │   └── ImageRejected       the image or volume
        │       │ UnsupportedColorMode
        │       ├── ImageEmpty
        │       │     VolumeEmpty
        │       ├── ImageInvalid
        │       │     VolumeInvalid
        │       └── ImageTruncated
        │             VolumeTruncated
        ├── Busy                    429
        │     JobsFull, QueueFull, QuotaExceeded
        └── ServerFailed            500 and above
            │ DeadlineExceeded, InternalError, StorageFull
            └── Unavailable         503
                │ DeviceLost, Draining, ForwardFailed, IdentityUnavailable, IntegrityViolated, OutOfMemory, Overloaded,
                │ StoreReadOnly, StoreUnavailable, SwapFailed
                └── Unusable        no retry ends it
                      AdapterCorrupt, AdapterQuarantined, AdapterUntrusted, DatasetCorrupt, OutputNotFinite

Each error has a stable `code`, its reason as `detail`, and a `request_id`, which is None if no response came. A
`ProblemError` also has the server's complete `problem`.
"""

from __future__ import annotations

from lensmount_client._advice import for_python
from lensmount_client._problem import Problem as Problem


class LensmountError(Exception):
    """`except LensmountError as error: print(error.code, error)` catches every error of this package."""

    code: str = "error"
    request_id: str | None = None

    def __init_subclass__(cls, code: str | None = None) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code

    @property
    def detail(self) -> str:
        """What was found, what was expected and how to fix it: for an error of the server, in the server's words."""
        return str(self)


# From here on, tables with one class per line, or two if it is long. The usual format takes three times as many lines.
# ruff: noqa: E701
# fmt: off
class LocalError(LensmountError): """Found on this machine, before any request."""
class InvalidInput(LocalError, code="invalid_input"):
    """An image, adapter file or argument that cannot be sent: missing, a folder, empty, float pixels."""
class InvalidSettings(LocalError, code="invalid_settings"): """An address, token or number that cannot be used."""
class InsecureTransport(LocalError, code="insecure_transport"):
    """A token would be sent unencrypted to another machine. Use https:// or `insecure=True`."""
class NoLabel(LocalError, LookupError, code="no_label"):
    """`Prediction.top` or `.label` of a prediction without one: the adapter abstained, or it failed."""

class CannotWrite(LensmountError, code="cannot_write"): """A file on this machine cannot be written."""
class TransportError(LensmountError): """No complete response came back."""
class ServerUnreachable(TransportError, code="server_unreachable"):
    """No server listens at the address, or the connection failed. Retried up to `retries` times."""
class TimedOut(TransportError, code="timed_out"):
    """The server took longer than `Timeout` allows. Not retried: it may still be working on the request."""
class WaitTimeout(TimedOut, code="wait_timeout"): """The job or review did not end within `timeout_s`. It continues."""
class ReviewFailed(LensmountError, code="review_failed"): """The server could not review the dataset; it says why."""
# fmt: on


class AnswerError(LensmountError):
    """A response came and cannot be accepted."""

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id)  # both, so that the error survives pickling
        self.request_id = request_id

    def __str__(self) -> str:
        return str(self.args[0])


# fmt: off
class UnexpectedResponse(AnswerError, code="unexpected_response"):
    """Not the response of a lensmount server: a proxy's page, a redirect, a missing field."""
class ResponseTooLarge(AnswerError, code="response_too_large"): """The response is longer than `max_response_bytes`."""
class AdapterMismatch(AnswerError, code="adapter_mismatch"): """Not the adapter, version or digest requested."""
class DownloadMismatch(AnswerError, code="download_mismatch"):
    """The bytes of a dataset or of a job's file do not have the digest that the server states."""
# fmt: on


# The classes below register themselves here by their code. `status` is used for codes that only a newer server has,
# and for proxies, which send no code.
CLASS_OF_CODE: dict[str, type[ProblemError]] = {}
CLASS_OF_STATUS: dict[int, type[ProblemError]] = {}


class ProblemError(LensmountError):
    """`error.problem` is the server's complete response. The error itself has its most used parts."""

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
    def detail(self) -> str:
        return self.problem.detail or self.problem.title

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def retry_after_s(self) -> float | None:
        return self.problem.retry_after_s

    def __str__(self) -> str:
        """The server's words, with calls of this SDK in place of routes; `problem.detail` has the routes."""
        return for_python(self.problem.detail) or self.problem.title


# fmt: off
class HostNotAllowed(ProblemError, code="host_not_allowed", status=421):
    """Without a token, the server answers only requests to a name of its own machine."""
class MethodNotAllowed(ProblemError, code="method_not_allowed", status=405): """The address has no such method."""
class NotAcceptable(ProblemError, code="not_acceptable", status=406): """No such format: masks of labels, say."""
class RequestTimeout(ProblemError, code="request_timeout", status=408): """The body took too long to arrive. Retried."""
class PreconditionFailed(ProblemError, code="precondition_failed", status=412): """Somebody else wrote first."""
class Unauthorized(ProblemError, code="unauthorized", status=401): """The token is missing or unknown to the server."""

class BadRequest(ProblemError, code="bad_request", status=400): """The request cannot be understood."""
class DuplicateKey(BadRequest, code="duplicate_key"): """A name occurs twice in a JSON object."""
class MultipartMalformed(BadRequest, code="multipart_malformed"): """The multipart body cannot be parsed."""
class MultipartTruncated(BadRequest, code="multipart_truncated"): """The multipart body ends before its last part."""

class Forbidden(ProblemError, status=403): """The request is not allowed."""
class AliasProtected(Forbidden, code="alias_protected"): """Only an administrator moves or deletes this alias."""
class FeedbackOff(Forbidden, code="feedback_off"): """The server keeps no feedback."""
class ImageNotKept(Forbidden, code="image_not_kept"): """The server has no image of that answer (any more): send it."""
class PublicReadOnly(Forbidden, code="public_read_only"): """Only its owner changes what is shared as public/NAME."""
class ScopeMissing(Forbidden, code="scope_missing"): """The token lacks the scope for this."""
class OriginNotAllowed(Forbidden, code="origin_not_allowed"): """A web page of another origin sent the request."""
class SignatureInvalid(Forbidden, code="signature_invalid"): """The signature does not belong to these bytes."""
class SignatureKeyUnknown(Forbidden, code="signature_key_unknown"): """The server does not trust the signer's key."""
class SignatureRequired(Forbidden, code="signature_required"): """The server takes only signed adapters."""
class SourceNotAllowed(Forbidden, code="source_not_allowed"): """The server fetches no adapters from there."""

class NotFound(ProblemError, code="not_found", status=404): """Nothing exists at this address."""
class AdapterNotFound(NotFound, code="adapter_not_found"): """No adapter has this name."""
class AliasNotFound(NotFound, code="alias_not_found"): """The adapter has no such alias."""
class DatasetNotFound(NotFound, code="dataset_not_found"): """No dataset has this name or version."""
class FileNotFound(NotFound, code="file_not_found"): """The job has no file of this name."""
class JobNotFound(NotFound, code="job_not_found"): """No job has this id."""
class RolloutNotFound(NotFound, code="rollout_not_found"): """The alias has no rollout."""
class TokenNotFound(NotFound, code="token_not_found"): """The tenant has no valid token of this name."""
class VersionNotFound(NotFound, code="version_not_found"): """The adapter has no such version or digest."""

class Conflict(ProblemError, status=409): """The request conflicts with the state of the server."""
class BackboneMismatch(Conflict, code="backbone_mismatch"): """The adapter was made for another backbone."""
class CancelRequested(Conflict, code="job_cancelled"): """A worker tried to publish for a job with a cancel request."""
class DatasetInUse(Conflict, code="dataset_in_use"):
    """A job that has not ended needs the dataset. Cancel the job, or delete later."""
class DraftWouldReplace(Conflict, code="draft_would_replace"):
    """The latest version of the adapter was trained. Only a job replaces it."""
class GateStale(Conflict, code="gate_stale"): """Another version was published while a worker evaluated its own."""
class JobFinished(Conflict, code="job_finished"): """The job has ended already; there is nothing to cancel."""
class JobNotFinished(Conflict, code="job_not_finished"): """Only a failed or cancelled job can be retried."""
class PublicNameTaken(Conflict, code="public_name_taken"): """Another tenant shares something under this public name."""
class LeaseLost(Conflict, code="lease_lost"): """A worker sent a request for a job that it no longer owns."""

class Gone(ProblemError, status=410): """The object existed and was deleted."""
class AuditGone(Gone, code="audit_gone"): """Records of the audit log behind this end are no longer kept."""
class DatasetGone(Gone, code="dataset_gone"): """The dataset, or this version of it, was deleted."""
class VersionDeleted(Gone, code="version_deleted"): """The version existed and was deleted."""

class TooLarge(ProblemError, status=413): """Over a limit; `error.problem.limit` says which."""
class BatchTooLarge(TooLarge, code="batch_too_large"):
    """The request has more images or adapters than the server allows."""
class BodyTooLarge(TooLarge, code="body_too_large"): """The request body is over the server's limit."""
class DatasetTooLarge(TooLarge, code="dataset_too_large"):
    """The dataset has more images or classes than the server trains on."""
class HeadersTooLarge(TooLarge, code="headers_too_large", status=431):
    """The request has too many headers, or too many bytes in them."""
class UriTooLong(TooLarge, code="uri_too_long", status=414): """The address has too many bytes."""
class ZipTooLarge(TooLarge, code="zip_too_large"): """The zip has too many bytes or files, packed or unpacked."""
class AdapterTooLarge(TooLarge, code="adapter_too_large"): """The adapter file is over the server's limit."""
class AdapterHeaderTooLarge(AdapterTooLarge, code="adapter_header_too_large"): """Its header is over the limit."""
class AdapterTooManyTensors(AdapterTooLarge, code="adapter_too_many_tensors"):
    """The file has more tensors than the server accepts."""
class RankTooLarge(AdapterTooLarge, code="rank_too_large"): """A rank is over the server's limit."""
class ImageTooLarge(TooLarge, code="image_too_large"): """The image has more bytes or pixels than the server decodes."""
class ImageTooManyFrames(ImageTooLarge, code="image_too_many_frames"): """It is an animation or a stack of images."""
class VolumeTooLarge(ImageTooLarge, code="volume_too_large"):
    """The volume has more bytes or voxels than the server decodes."""

class Unsupported(ProblemError, status=415): """The server does not read this format."""
class UnsupportedAdapterFormat(Unsupported, code="unsupported_adapter_format"): """It is not a safetensors file."""
class UnsupportedContentEncoding(Unsupported, code="unsupported_content_encoding"): """The body is compressed."""
class UnsupportedImageFormat(Unsupported, code="unsupported_image_format"):
    """The server does not read this image format."""
class UnsupportedVolumeFormat(UnsupportedImageFormat, code="unsupported_volume_format"): """It is not a known volume."""

class Unprocessable(ProblemError, status=422): """The server understood the request, and its content is invalid."""
class DigestMismatch(Unprocessable, code="digest_mismatch"): """The bytes that arrived do not have the stated digest."""
class DuplicatePart(Unprocessable, code="duplicate_part"): """The multipart body has a part twice."""
class ExpectedFile(Unprocessable, code="expected_file"): """A multipart field has text instead of a file."""
class ExplanationNotPossible(Unprocessable, code="explanation_not_possible"):
    """No map exists for this adapter or method. The message names a method that works."""
class ExportNotPossible(Unprocessable, code="export_not_possible"):
    """The format cannot hold the adapter. The message names one that can."""
class ExportUnavailable(Unprocessable, code="export_unavailable"): """The server lacks a library for this format."""
class IdempotencyKeyReuse(Unprocessable, code="idempotency_key_reuse"): """The key belongs to another job."""
class InvalidName(Unprocessable, code="invalid_name"): """Adapter names match `[a-z0-9][a-z0-9._-]{0,63}`."""
class InvalidReference(Unprocessable, code="invalid_reference"):
    """A reference is `name`, `name@3`, `name@sha256:<64 hex>` or `name:alias`."""
class InvalidRequest(Unprocessable, code="invalid_request"):
    """A parameter or body field is wrong; `error.problem.errors` lists them."""
class MissingPart(Unprocessable, code="missing_part"): """The multipart body lacks a part."""
class RolloutInvalid(Unprocessable, code="rollout_invalid"): """The versions of a rollout cannot be compared."""
class SingleImageRequired(Unprocessable, code="single_image_required"): """It needs one image and one adapter."""
class SourceUnavailable(Unprocessable, code="source_unavailable"): """The URL did not give the server the file."""
class TokenExists(Unprocessable, code="token_exists"): """The tenant has a valid token of this name. Rotate it."""
class TooManyRegions(Unprocessable, code="too_many_regions"): """There are too many outlines. Request masks instead."""
class TrainingFailed(Unprocessable, code="training_failed"): """A training with these settings is not possible."""
class UnknownLabel(Unprocessable, code="unknown_label"): """The adapter has no such label."""

class AdapterRejected(Unprocessable): """The server checked the adapter file and rejected it."""
class AdapterInvalid(AdapterRejected, code="adapter_invalid"): """The manifest lacks required information."""
class AdapterIncomplete(AdapterRejected, code="adapter_incomplete"): """A tensor of a pair is missing."""
class AdapterNoEffect(AdapterRejected, code="adapter_no_effect"): """The adapter would not change any weight."""
class AdapterNormLimit(AdapterRejected, code="adapter_norm_limit"):
    """The adapter changes a weight by far more than the weight's own norm."""
class AdapterNotFinite(AdapterRejected, code="adapter_not_finite"): """A value is NaN or infinite."""
class AdapterOverflow(AdapterRejected, code="adapter_overflow"): """A merged weight is too large for its data type."""
class AdapterShapeMismatch(AdapterRejected, code="adapter_shape_mismatch"): """A tensor has a wrong shape."""
class AdapterUnknownTarget(AdapterRejected, code="adapter_unknown_target"): """The backbone has no such module."""
class HeadMismatch(AdapterRejected, code="head_mismatch"): """The head does not fit the labels or the backbone."""
class HeadMissing(AdapterRejected, code="head_missing"): """The file has no head."""
class ManifestInvalid(AdapterRejected, code="manifest_invalid"): """The manifest cannot be read or lacks a field."""
class ManifestMissing(AdapterRejected, code="manifest_missing"): """The file has no manifest."""
class PreprocessingMismatch(AdapterRejected, code="preprocessing_mismatch"): """It needs other preprocessing."""
class TrustMismatch(AdapterRejected, code="trust_mismatch"):
    """The calibration and thresholds in the file are not those of this adapter."""
class UnsupportedDtype(AdapterRejected, code="unsupported_dtype"): """A tensor is not F32, F16 or BF16."""
class AdapterMalformed(AdapterRejected, code="adapter_malformed"): """The safetensors file is malformed."""
class AdapterEmpty(AdapterMalformed, code="adapter_empty"): """The file has no tensor."""
class EmptyTensor(AdapterMalformed, code="empty_tensor"): """A tensor has no elements."""

class DatasetRejected(Unprocessable): """The server checked the dataset and rejected it."""
class DatasetInvalid(DatasetRejected, code="dataset_invalid"):
    """The folders or the manifest lack required information. The message names the row."""
class DatasetTooSmall(DatasetRejected, code="dataset_too_small"):
    """There are too few classes, or too few images of a class."""
class DatasetUnreadable(DatasetRejected, code="dataset_unreadable"): """Too many of its images cannot be decoded."""
class DraftNeedsImages(DatasetRejected, code="draft_needs_images"):
    """A class has fewer images than a first draft needs."""
class ZipBadPath(DatasetRejected, code="zip_bad_path"):
    """A name points outside the archive, or is not valid on every file system."""
class ZipDuplicateName(DatasetRejected, code="zip_duplicate_name"): """Two entries have the same name, ignoring case."""
class ZipEncrypted(DatasetRejected, code="zip_encrypted"): """The zip needs a password."""
class ZipMalformed(DatasetRejected, code="zip_malformed"): """The zip file is malformed."""
class ZipMethodNotSupported(DatasetRejected, code="zip_method_not_supported"): """Its compression is not supported."""
class ZipOverlap(DatasetRejected, code="zip_overlap"): """Entries share bytes, as in a zip bomb."""
class ZipSizeMismatch(DatasetRejected, code="zip_size_mismatch"): """An entry's size or checksum is wrong."""
class ZipSymlink(DatasetRejected, code="zip_symlink"): """An entry is a symbolic link or another special file."""

class ImageRejected(Unprocessable): """The server cannot use the image."""
class UnsupportedColorMode(ImageRejected, code="unsupported_color_mode"): """Its colour mode is not converted."""

class ImageEmpty(ImageRejected, code="image_empty"): """The image has no bytes or no pixels."""
class VolumeEmpty(ImageEmpty, code="volume_empty"): """The volume has no bytes or no voxels."""
class ImageInvalid(ImageRejected, code="image_invalid"): """The bytes cannot be decoded as an image."""
class VolumeInvalid(ImageInvalid, code="volume_invalid"): """The bytes cannot be decoded as a volume."""
class ImageTruncated(ImageRejected, code="image_truncated"): """The file ends before the image does."""
class VolumeTruncated(ImageTruncated, code="volume_truncated"): """The file ends before the volume does."""

class Busy(ProblemError, status=429): """The server is busy. Retried after Retry-After."""
class JobsFull(Busy, code="jobs_full"): """The maximum number of jobs is queued."""
class QueueFull(Busy, code="queue_full"): """The server's queue is full."""
class QuotaExceeded(Busy, code="quota_exceeded"): """The token has used up a quota. `Client.whoami` shows which."""

class ServerFailed(ProblemError): """Status 500 and above: the server failed."""
class DeadlineExceeded(ServerFailed, code="deadline_exceeded", status=504): """The server could not answer in time."""
class InternalError(ServerFailed, code="internal_error"): """A bug in the server; its log has the request id."""
class StorageFull(ServerFailed, code="storage_full", status=507): """The server's disk is full."""

class Unavailable(ServerFailed, status=503): """The server cannot answer now. Retried after Retry-After."""
class DeviceLost(Unavailable, code="device_lost"): """The server's device failed; the server has to start again."""
class Draining(Unavailable, code="draining"): """The server is shutting down."""
class ForwardFailed(Unavailable, code="forward_failed"): """The network could not be run on this input."""
class IdentityUnavailable(Unavailable, code="identity_unavailable"): """The identity provider cannot be reached."""
class IntegrityViolated(Unavailable, code="integrity_violated"): """The weights in memory have changed."""
class OutOfMemory(Unavailable, code="out_of_memory"): """The server had no memory left for this request."""
class Overloaded(Unavailable, code="overloaded"): """The server has too many connections, or holds too many bytes."""
class StoreReadOnly(Unavailable, code="store_read_only"): """The server can read its files but not write them."""
class StoreUnavailable(Unavailable, code="store_unavailable"): """The server cannot reach its database or its files."""
class SwapFailed(Unavailable, code="swap_failed"): """The adapter could not be mounted; the backbone was restored."""
class Unusable(Unavailable): """What is stored is at fault. Never retried, because that changes nothing."""
class AdapterCorrupt(Unusable, code="adapter_corrupt"): """The stored adapter no longer has its digest."""
class AdapterQuarantined(Unusable, code="adapter_quarantined"): """It failed too often. See `adapters.release`."""
class AdapterUntrusted(Unusable, code="adapter_untrusted"): """No key that the server trusts now has signed it."""
class DatasetCorrupt(Unusable, code="dataset_corrupt"): """The stored dataset no longer has its digest."""
class OutputNotFinite(Unusable, code="output_not_finite"): """The network returned NaN or infinity."""
# fmt: on


class UploadOffsetMismatch(Conflict, code="upload_offset_mismatch"):
    """The server has a different number of bytes of this upload: `error.received`. The next push resumes there."""

    @property
    def received(self) -> int | None:
        received = self.problem.more.get("received")
        return received if isinstance(received, int) and not isinstance(received, bool) else None
