"""Every error of the service: one base class, one tree; `problems.py` turns each into a status.

ServiceError
├── RequestError                bad_request: a request that cannot be read
│   ├── BodyTooLarge            body_too_large, batch_too_large, too_many_parts
│   ├── MultipartMalformed      multipart_malformed, multipart_truncated
│   ├── MediaTypeUnsupported    unsupported_content_encoding
│   └── RequestInvalid          invalid_request, invalid_name, invalid_reference, missing_part, digest_mismatch
├── NotAcceptable               not_acceptable: no form of the answer that `Accept` takes
├── NotFound                    not_found, adapter_not_found, version_not_found, alias_not_found, job_not_found,
│                               file_not_found, dataset_not_found
├── VersionDeleted              version_deleted, dataset_gone
├── DatasetInUse                dataset_in_use: a job still needs it
├── UploadOffsetMismatch        upload_offset_mismatch: go on from `received`
├── JobConflict                 job_finished, job_not_finished, job_cancelled, gate_stale
│   └── LeaseLost               lease_lost: another worker holds the job
├── Unauthorized                unauthorized
├── Forbidden                   origin_not_allowed
├── HostNotAllowed              host_not_allowed
├── QueueFull                   queue_full, jobs_full: come back after `retry_after_s`
├── Unavailable                 draining, forward_failed, output_not_finite, adapter_corrupt, dataset_corrupt,
│                               store_unavailable
├── DeadlineExceeded            deadline_exceeded
└── StorageFull                 storage_full
"""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """The base of the service's own errors; `code` is stable and part of the API."""

    default_code: ClassVar[str] = "service_error"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.retry_after_s = retry_after_s


class RequestError(ServiceError):
    default_code = "bad_request"


class BodyTooLarge(RequestError):
    default_code = "body_too_large"


class MultipartMalformed(RequestError):
    default_code = "multipart_malformed"


class MediaTypeUnsupported(RequestError):
    default_code = "unsupported_content_encoding"


class RequestInvalid(RequestError):
    default_code = "invalid_request"


class NotAcceptable(ServiceError):
    default_code = "not_acceptable"


class NotFound(ServiceError):
    default_code = "not_found"


class VersionDeleted(ServiceError):
    default_code = "version_deleted"


class JobConflict(ServiceError):
    default_code = "job_finished"


class LeaseLost(JobConflict):
    default_code = "lease_lost"


class DatasetInUse(ServiceError):
    default_code = "dataset_in_use"


class UploadOffsetMismatch(ServiceError):
    default_code = "upload_offset_mismatch"

    def __init__(self, message: str, *, received: int) -> None:
        super().__init__(message)
        self.received = received


class Unauthorized(ServiceError):
    default_code = "unauthorized"


class Forbidden(ServiceError):
    default_code = "origin_not_allowed"


class HostNotAllowed(ServiceError):
    default_code = "host_not_allowed"


class QueueFull(ServiceError):
    default_code = "queue_full"


class Unavailable(ServiceError):
    default_code = "draining"


class DeadlineExceeded(ServiceError):
    default_code = "deadline_exceeded"


class StorageFull(ServiceError):
    default_code = "storage_full"
