"""Every error of the service, in one tree. `web/problems.py` turns each into an HTTP status.

ServiceError
├── RequestError                a request that cannot be read
│   ├── BodyTooLarge
│   ├── MultipartMalformed
│   ├── MediaTypeUnsupported
│   └── RequestInvalid
├── ItemsRefused                some of several items in one request; answered as the first of them
├── NotAcceptable               `Accept` excludes every format of the response
├── NotFound
├── VersionDeleted
├── DatasetInUse                a job still needs it
├── NotADraft                   a trained adapter, which a draft does not replace
├── NameTaken                   another tenant shares something under it
├── UploadOffsetMismatch        resume from `received`
├── JobConflict
│   └── LeaseLost               another worker has the job
├── Unauthorized
├── Forbidden
│   └── Unsigned                an adapter's signature is missing, wrong or by an unknown key
├── HostNotAllowed
├── PreconditionFailed          If-Match or If-None-Match
├── QueueFull                   try again after `retry_after_s`
│   └── QuotaExceeded           the caller used up what the token may use
│       └── StoredTooMuch       waiting does not help
├── Unavailable                 try again
│   ├── StoreDamaged            the database itself is at fault
│   └── Unusable                an adapter or a dataset is at fault
├── DeadlineExceeded
└── StorageFull

Each class declares every code that it is raised with: `default_code` and `finer_codes`. The codes are part of the API.
`problems.CODES` collects them, and tests compare them with the client's classes and the table in docs/api.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lensmount_adapters.errors import LensmountError


class ServiceError(Exception):
    """The base class of the service's errors. `code` is stable and part of the API."""

    default_code: ClassVar[str] = "service_error"
    finer_codes: ClassVar[tuple[str, ...]] = ()  # of this class only, not of its subclasses
    lasting: ClassVar[bool] = False  # trying again changes nothing, so no answer has Retry-After

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.retry_after_s = retry_after_s


class RequestError(ServiceError):
    default_code = "bad_request"
    finer_codes: ClassVar[tuple[str, ...]] = ("duplicate_key",)


class BodyTooLarge(RequestError):
    default_code = "body_too_large"
    finer_codes = ("batch_too_large",)


class MultipartMalformed(RequestError):
    default_code = "multipart_malformed"
    finer_codes = ("multipart_truncated",)


class MediaTypeUnsupported(RequestError):
    default_code = "unsupported_content_encoding"


class RequestInvalid(RequestError):
    default_code = "invalid_request"
    finer_codes = (
        "digest_mismatch",
        "duplicate_part",
        "expected_file",
        "idempotency_key_reuse",
        "invalid_name",
        "invalid_reference",
        "missing_part",
        "rollout_invalid",
        "single_image_required",
        "source_unavailable",
        "token_exists",
        "too_many_regions",
    )


class ItemsRefused(ServiceError):
    """Some of several items in one request are refused, so none was taken. Its code and its status are the first's.

    `refused` has the place of each of them among the items, from 0.
    """

    def __init__(self, what: str, count: int, refused: Sequence[tuple[int, LensmountError]]) -> None:
        place, self.first = refused[0]
        super().__init__(
            f"found {len(refused)} of {count} {what} that cannot be taken, so none was. "
            f"Number {place + 1}: {self.first}",
            code=self.first.code,
        )
        self.refused = tuple(refused)


class NotAcceptable(ServiceError):
    default_code = "not_acceptable"


class NotFound(ServiceError):
    default_code = "not_found"
    finer_codes = (
        "adapter_not_found",
        "alias_not_found",
        "dataset_not_found",
        "file_not_found",
        "job_not_found",
        "rollout_not_found",
        "token_not_found",
        "version_not_found",
    )


class VersionDeleted(ServiceError):
    default_code = "version_deleted"
    finer_codes = ("audit_gone", "dataset_gone")


class JobConflict(ServiceError):
    default_code = "job_finished"
    finer_codes = ("gate_stale", "job_cancelled", "job_not_finished")


class LeaseLost(JobConflict):
    default_code = "lease_lost"


class DatasetInUse(ServiceError):
    default_code = "dataset_in_use"


class NotADraft(ServiceError):
    default_code = "draft_would_replace"


class NameTaken(ServiceError):
    default_code = "public_name_taken"


class UploadOffsetMismatch(ServiceError):
    default_code = "upload_offset_mismatch"

    def __init__(self, message: str, *, received: int) -> None:
        super().__init__(message)
        self.received = received


class Unauthorized(ServiceError):
    default_code = "unauthorized"


class Forbidden(ServiceError):
    default_code = "origin_not_allowed"
    finer_codes: ClassVar[tuple[str, ...]] = (
        "alias_protected",
        "feedback_off",
        "image_not_kept",
        "public_read_only",
        "scope_missing",
        "source_not_allowed",
    )


class Unsigned(Forbidden):
    default_code = "signature_required"
    finer_codes = ("signature_invalid", "signature_key_unknown")


class HostNotAllowed(ServiceError):
    default_code = "host_not_allowed"


class PreconditionFailed(ServiceError):
    default_code = "precondition_failed"


class QueueFull(ServiceError):
    default_code = "queue_full"
    finer_codes = ("jobs_full",)


class QuotaExceeded(QueueFull):
    default_code = "quota_exceeded"


class StoredTooMuch(QuotaExceeded):
    lasting = True


class Unavailable(ServiceError):
    default_code = "draining"
    finer_codes: ClassVar[tuple[str, ...]] = (
        "device_lost",
        "forward_failed",
        "identity_unavailable",
        "out_of_memory",
        "overloaded",
        "store_read_only",
        "store_unavailable",
        "swap_failed",
    )


class Unusable(Unavailable):
    default_code = "adapter_corrupt"
    finer_codes = ("adapter_quarantined", "adapter_untrusted", "dataset_corrupt", "output_not_finite")
    lasting = True


class StoreDamaged(Unavailable):
    default_code = "store_unavailable"
    lasting = True


class DeadlineExceeded(ServiceError):
    default_code = "deadline_exceeded"

    @classmethod
    def after(cls, timeout_s: float) -> DeadlineExceeded:
        return cls(
            f"found no answer after {timeout_s:g} s. Fix: allow a longer timeout, or send fewer images at a time"
        )


class StorageFull(ServiceError):
    default_code = "storage_full"
