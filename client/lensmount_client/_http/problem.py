"""Turn an answer that says no into the error class that names it."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from lensmount_client import _errors as e
from lensmount_client._http.response import Response
from lensmount_client._http.retry import parse_retry_after

# The members of a problem document that have a place of their own in Problem.
USUAL = frozenset({"type", "title", "status", "detail", "code", "request_id", "retry_after_s", "errors", "limit"})

# Codes that a newer server may have, by what they are about.
CLASS_OF_PREFIX: dict[str, type[e.ProblemError]] = {
    "image_": e.ImageRejected,
    "volume_": e.ImageRejected,
    "adapter_": e.AdapterRejected,
    "manifest_": e.AdapterRejected,
    "head_": e.AdapterRejected,
    "dataset_": e.DatasetRejected,
    "zip_": e.DatasetRejected,
}


def error_of(answer: Response, now_s: float) -> e.LensmountError:
    """The error that this answer, whose status is not 2xx, stands for. `now_s` is Unix time."""
    if answer.status < 400:
        return e.UnexpectedResponse(_redirect_message(answer), answer.request_id)
    problem = _problem_of(answer, now_s)
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


def _problem_of(answer: Response, now_s: float) -> e.Problem:
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


def _foreign_problem(answer: Response, now_s: float) -> e.Problem:
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


def _document_of(answer: Response) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after_s(answer: Response, document: dict[str, Any], now_s: float) -> float | None:
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


def _redirect_message(answer: Response) -> str:
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
