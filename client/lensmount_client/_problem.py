"""Turn an answer that says no into the error class that names it."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from . import _errors as e
from ._answer import Answer
from ._retry import parse_retry_after

CLASS_OF_CODE: dict[str, type[e.ProblemError]] = {
    "bad_request": e.BadRequest,
    "multipart_malformed": e.MultipartMalformed,
    "multipart_truncated": e.MultipartTruncated,
    "unauthorized": e.Unauthorized,
    "origin_not_allowed": e.OriginNotAllowed,
    "not_found": e.NotFound,
    "adapter_not_found": e.AdapterNotFound,
    "alias_not_found": e.AliasNotFound,
    "dataset_not_found": e.DatasetNotFound,
    "job_not_found": e.JobNotFound,
    "version_not_found": e.VersionNotFound,
    "method_not_allowed": e.MethodNotAllowed,
    "not_acceptable": e.NotAcceptable,
    "request_timeout": e.RequestTimeout,
    "backbone_mismatch": e.BackboneMismatch,
    "dataset_in_use": e.DatasetInUse,
    "job_finished": e.JobFinished,
    "job_not_finished": e.JobNotFinished,
    "lease_lost": e.LeaseLost,
    "upload_offset_mismatch": e.UploadOffsetMismatch,
    "dataset_gone": e.DatasetGone,
    "version_deleted": e.VersionDeleted,
    "adapter_too_large": e.AdapterTooLarge,
    "batch_too_large": e.BatchTooLarge,
    "body_too_large": e.BodyTooLarge,
    "image_too_large": e.ImageTooLarge,
    "zip_too_large": e.ZipTooLarge,
    "unsupported_adapter_format": e.UnsupportedAdapterFormat,
    "unsupported_content_encoding": e.UnsupportedContentEncoding,
    "unsupported_image_format": e.UnsupportedImageFormat,
    "host_not_allowed": e.HostNotAllowed,
    "invalid_name": e.InvalidName,
    "invalid_reference": e.InvalidReference,
    "invalid_request": e.InvalidRequest,
    "missing_part": e.MissingPart,
    "expected_file": e.ExpectedFile,
    "duplicate_part": e.DuplicatePart,
    "idempotency_key_reuse": e.IdempotencyKeyReuse,
    "adapter_invalid": e.AdapterInvalid,
    "adapter_malformed": e.AdapterMalformed,
    "adapter_no_effect": e.AdapterNoEffect,
    "adapter_not_finite": e.AdapterNotFinite,
    "adapter_unknown_target": e.AdapterUnknownTarget,
    "digest_mismatch": e.DigestMismatch,
    "dataset_invalid": e.DatasetInvalid,
    "dataset_too_small": e.DatasetTooSmall,
    "dataset_unreadable": e.DatasetUnreadable,
    "zip_bad_path": e.ZipBadPath,
    "zip_duplicate_name": e.ZipDuplicateName,
    "zip_encrypted": e.ZipEncrypted,
    "zip_malformed": e.ZipMalformed,
    "zip_method_not_supported": e.ZipMethodNotSupported,
    "zip_overlap": e.ZipOverlap,
    "zip_size_mismatch": e.ZipSizeMismatch,
    "zip_symlink": e.ZipSymlink,
    "image_empty": e.ImageEmpty,
    "image_invalid": e.ImageInvalid,
    "image_truncated": e.ImageTruncated,
    "queue_full": e.QueueFull,
    "jobs_full": e.JobsFull,
    "internal_error": e.InternalError,
    "adapter_corrupt": e.AdapterCorrupt,
    "draining": e.Draining,
    "forward_failed": e.ForwardFailed,
    "output_not_finite": e.OutputNotFinite,
    "store_unavailable": e.StoreUnavailable,
    "swap_failed": e.SwapFailed,
    "deadline_exceeded": e.DeadlineExceeded,
    "storage_full": e.StorageFull,
}

# The members of a problem document that have a place of their own in Problem.
USUAL = frozenset({"type", "title", "status", "detail", "code", "request_id", "retry_after_s", "errors", "limit"})

# For the codes of a newer server, and for proxies, which send none.
CLASS_OF_STATUS: dict[int, type[e.ProblemError]] = {
    400: e.BadRequest,
    401: e.Unauthorized,
    403: e.Forbidden,
    404: e.NotFound,
    405: e.MethodNotAllowed,
    406: e.NotAcceptable,
    408: e.RequestTimeout,
    409: e.Conflict,
    410: e.Gone,
    413: e.TooLarge,
    415: e.Unsupported,
    421: e.HostNotAllowed,
    422: e.Unprocessable,
    429: e.Busy,
    503: e.Unavailable,
    504: e.DeadlineExceeded,
    507: e.StorageFull,
}


def error_of(answer: Answer, now_s: float) -> e.LensmountError:
    """The error that this answer, whose status is not 2xx, stands for. `now_s` is Unix time."""
    if answer.status < 400:
        return e.UnexpectedResponse(_redirect_message(answer), answer.request_id)
    problem = _problem_of(answer, now_s)
    return _class_of(problem)(problem)


def _class_of(problem: e.Problem) -> type[e.ProblemError]:
    if problem.code in CLASS_OF_CODE:
        return CLASS_OF_CODE[problem.code]
    if problem.status == 422 and problem.code.startswith("image_"):
        return e.ImageRejected
    if problem.status == 422 and problem.code.startswith("adapter_"):
        return e.AdapterRejected
    if problem.status == 422 and problem.code.startswith(("dataset_", "zip_")):
        return e.DatasetRejected
    fallback = e.ServerFailed if problem.status >= 500 else e.ProblemError
    return CLASS_OF_STATUS.get(problem.status, fallback)


def _problem_of(answer: Answer, now_s: float) -> e.Problem:
    document = _document_of(answer)
    code = document.get("code")
    if not isinstance(code, str):
        return _foreign_problem(answer, now_s)
    errors, limit = document.get("errors"), document.get("limit")
    return e.Problem(
        status=answer.status,
        code=code,
        title=_text(document, "title") or _reason(answer.status),
        detail=_text(document, "detail"),
        request_id=_text(document, "request_id") or answer.request_id,
        retry_after_s=_retry_after_s(answer, document, now_s),
        errors=tuple(errors) if isinstance(errors, list) else (),
        limit=limit if isinstance(limit, dict) else {},
        more={key: value for key, value in document.items() if key not in USUAL},
    )


def _foreign_problem(answer: Answer, now_s: float) -> e.Problem:
    reason = _reason(answer.status)
    sent = answer.content_type or "no content type"
    return e.Problem(
        status=answer.status,
        code=f"http_{answer.status}",
        title=reason,
        detail=(
            f"status {answer.status} ({reason}) with {sent}, expected a lensmount problem document: "
            "does a proxy stand in between, or another server at this address?"
        ),
        request_id=answer.request_id,
        retry_after_s=_retry_after_s(answer, {}, now_s),
    )


def _document_of(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after_s(answer: Answer, document: dict[str, Any], now_s: float) -> float | None:
    from_header = parse_retry_after(answer.headers.get("retry-after"), now_s)
    if from_header is not None:
        return from_header
    stated = document.get("retry_after_s")
    if isinstance(stated, bool) or not isinstance(stated, int | float):
        return None
    try:
        seconds = float(stated)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _redirect_message(answer: Answer) -> str:
    target = answer.headers.get("location")
    found = f"status {answer.status}" + (f" to {target}" if target else "")
    return f"{found}, expected an answer: redirects are not followed, give the final address as base_url"


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"
