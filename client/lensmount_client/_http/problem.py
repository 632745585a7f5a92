"""Turn an error response into an exception of the matching class."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from lensmount_client import _errors as e
from lensmount_client._http.response import Response
from lensmount_client._http.retry import parse_retry_after

# The members of a problem document that have their own field in Problem; the others go to `more`.
USUAL = frozenset({"type", "title", "status", "detail", "code", "request_id", "retry_after_s", "errors", "limit"})

# For codes that only a newer server has: the class by the prefix of the code.
CLASS_OF_PREFIX: dict[str, type[e.ProblemError]] = {
    "image_": e.ImageRejected,
    "volume_": e.ImageRejected,
    "adapter_": e.AdapterRejected,
    "manifest_": e.AdapterRejected,
    "head_": e.AdapterRejected,
    "dataset_": e.DatasetRejected,
    "zip_": e.DatasetRejected,
}


def error_of(response: Response, now_s: float) -> e.LensmountError:
    """The exception for a response whose status is not 2xx. `now_s` is Unix time."""
    if response.status < 400:
        return e.UnexpectedResponse(_redirect_message(response), response.request_id)
    problem = _problem_of(response, now_s)
    return _class_of(problem)(problem)


def error_from(problem: e.Problem) -> e.ProblemError:
    """The exception for a problem that came inside a response."""
    return _class_of(problem)(problem)


def _class_of(problem: e.Problem) -> type[e.ProblemError]:
    if problem.code in e.CLASS_OF_CODE:
        return e.CLASS_OF_CODE[problem.code]
    if problem.status == 422:
        for prefix, kind in CLASS_OF_PREFIX.items():
            if problem.code.startswith(prefix):
                return kind
    fallback = e.ServerFailed if problem.status >= 500 else e.ProblemError
    return e.CLASS_OF_STATUS.get(problem.status, fallback)


def _problem_of(response: Response, now_s: float) -> e.Problem:
    document = _document_of(response)
    code = document.get("code")
    if not isinstance(code, str):
        return _foreign_problem(response, now_s)
    errors, limit = document.get("errors"), document.get("limit")
    return e.Problem(
        status=response.status,
        code=code,
        title=_string(document, "title") or _reason(response.status),
        detail=_string(document, "detail"),
        request_id=_string(document, "request_id") or response.request_id,
        retry_after_s=_retry_after_s(response, document, now_s),
        errors=tuple(errors) if isinstance(errors, list) else (),
        limit=limit if isinstance(limit, dict) else {},
        more={key: value for key, value in document.items() if key not in USUAL},
    )


def _foreign_problem(response: Response, now_s: float) -> e.Problem:
    reason = _reason(response.status)
    content_type = response.content_type or "no content type"
    return e.Problem(
        status=response.status,
        code=f"http_{response.status}",
        title=reason,
        detail=(
            f"status {response.status} ({reason}) with {content_type}, expected a lensmount problem document: "
            "is there a proxy in between, or another server at this address?"
        ),
        request_id=response.request_id,
        retry_after_s=_retry_after_s(response, {}, now_s),
    )


def _document_of(response: Response) -> dict[str, Any]:
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after_s(response: Response, document: dict[str, Any], now_s: float) -> float | None:
    from_header = parse_retry_after(response.headers.get("retry-after"), now_s)
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


def _redirect_message(response: Response) -> str:
    target = response.headers.get("location")
    found = f"status {response.status}" + (f" to {target}" if target else "")
    return f"{found}, but redirects are not followed. Fix: give the final address as base_url"


def _string(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"
