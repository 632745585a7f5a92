"""Turns error classes into application/problem+json (RFC 9457) by one table. Responses repeat nothing of the request.

`CODES` maps every code that a response can carry to its status. Each code is listed once: the codes of an error class
are declared on the class, and the others are in `_WITHOUT_CLASS`.
"""

from __future__ import annotations

import errno
import http
from collections.abc import Callable, Iterator
from typing import Any, get_args

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from lensmount_adapters import errors as adapters
from lensmount_adapters.suggestion import did_you_mean
from lensmount_service import errors as service
from lensmount_service.errors import Unavailable
from lensmount_service.store.faults import fault_of_disk
from lensmount_service.web.hardening import HEADERS

log = structlog.get_logger(__name__)

STATUS: dict[type[Exception], int] = {
    ClientDisconnect: 499,  # only for the metrics, because nobody reads the response; the number is nginx's
    service.RequestError: 400,
    service.MultipartMalformed: 400,
    service.BodyTooLarge: 413,
    service.MediaTypeUnsupported: 415,
    service.RequestInvalid: 422,
    service.Unauthorized: 401,
    service.Forbidden: 403,
    service.NotFound: 404,
    service.NotAcceptable: 406,
    service.VersionDeleted: 410,
    service.DatasetInUse: 409,
    service.NotADraft: 409,
    service.NameTaken: 409,
    service.UploadOffsetMismatch: 409,
    service.JobConflict: 409,
    service.PreconditionFailed: 412,
    service.HostNotAllowed: 421,
    service.QueueFull: 429,
    service.Unavailable: 503,
    service.DeadlineExceeded: 504,
    service.StorageFull: 507,
    adapters.AdapterUnsupported: 415,
    adapters.AdapterTooLarge: 413,
    adapters.AdapterMalformed: 422,
    adapters.AdapterInvalid: 422,
    adapters.BackboneMismatch: 409,
    adapters.ExplainError: 422,
    adapters.ExportError: 422,
    adapters.ImageUnsupported: 415,
    adapters.ImageTooLarge: 413,
    adapters.ImageInvalid: 422,
    adapters.TrainingError: 422,
    adapters.DatasetError: 422,
    adapters.DatasetTooLarge: 413,
    adapters.SwapError: 503,
    adapters.IntegrityError: 503,
}

# Codes that the transport, the middleware and the handlers below write themselves, without an error class.
_WITHOUT_CLASS = {
    "method_not_allowed": 405,
    "request_timeout": 408,
    "uri_too_long": 414,
    "headers_too_large": 431,
    "internal_error": 500,
}

# Codes that no client ever reads, because the server stops before it serves or the client is gone.
NEVER_SENT = frozenset(
    {
        "service_error",  # of base classes, which are not raised
        "lensmount_error",
        "backbone_unavailable",  # at startup, and in a worker
        "weights_mismatch",
        "executor_unavailable",
        "client_disconnected",
    }
)

# Errors of the operating system that say something about the machine, not about the code.
_OF_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)

_BY_STATUS = {400: "bad_request", 401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}
MEDIA_TYPE = "application/problem+json"


class Problem(JSONResponse):
    """A problem document, which is counted when it is answered."""

    media_type = MEDIA_TYPE

    def __init__(self, code: str, status: int, body: dict[str, object], headers: dict[str, str]) -> None:
        super().__init__(body, status, headers=headers)
        self.code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        count_refusal(scope.get("app"), self.code, self.status_code)
        await super().__call__(scope, receive, send)


def count_refusal(app: object, code: str, status: int) -> None:
    """Tell `app.state.refused`, if the application has it, of a problem document that is answered in its name."""
    refused: Callable[[str, int], None] | None = getattr(getattr(app, "state", None), "refused", None)
    if refused is not None:
        refused(code, status)


def problem(
    status: int, code: str, detail: str, request_id: str, headers: dict[str, str] | None = None, **more: object
) -> Problem:
    """One problem document."""
    title = "URI Too Long" if status == 414 else http.HTTPStatus(status).phrase
    body: dict[str, object] = {
        "type": f"urn:lensmount:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        **more,
    }
    headers = dict(headers or {})
    if status in (400, 408, 413, 414, 431):
        headers["Connection"] = "close"  # the rest of the body is not read
    return Problem(code, status, body, headers)


def install(app: FastAPI) -> None:
    """Register the handlers that turn every error into a problem document."""
    app.add_exception_handler(service.ServiceError, _on_error)
    app.add_exception_handler(adapters.LensmountError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(MemoryError, _on_memory)
    app.add_exception_handler(Exception, _on_bug)


def _ascii(text: str) -> str:
    """A lone surrogate in a JSON key must not break the response that names it."""
    return text.encode("ascii", "backslashreplace").decode()


def status_of(error: Exception) -> int:
    return _status(type(error)) or 500


def code_of(error: Exception) -> str:
    """The code of the problem document that answers an error."""
    if isinstance(error, ClientDisconnect):
        return "client_disconnected"
    return error.code if isinstance(error, service.ServiceError | adapters.LensmountError) else "internal_error"


def _status(kind: type[Exception]) -> int | None:
    return next((STATUS[base] for base in kind.__mro__ if base in STATUS), None)


def _codes_of(kind: type[service.ServiceError | adapters.LensmountError]) -> Iterator[tuple[str, int]]:
    """The codes of an error class and of its subclasses, each with its status."""
    status = _status(kind)
    if status is not None:  # None for a base class, which is never raised itself
        yield from ((code, status) for code in (kind.default_code, *vars(kind).get("finer_codes", ())))
    for finer in kind.__subclasses__():
        yield from _codes_of(finer)


CODES: dict[str, int] = {
    **_WITHOUT_CLASS,
    **dict(_codes_of(service.ServiceError)),
    **dict(_codes_of(adapters.LensmountError)),
}


def answer_to(error: service.ServiceError | adapters.LensmountError, request_id: str) -> JSONResponse:
    """The problem document of an error."""
    retry_after_s = getattr(error, "retry_after_s", None)
    status = status_of(error.first if isinstance(error, service.ItemsRefused) else error)
    if status in (429, 503) and retry_after_s is None and not getattr(error, "lasting", False):
        retry_after_s = 1
    more: dict[str, object] = {} if retry_after_s is None else {"retry_after_s": retry_after_s}
    if isinstance(error, service.UploadOffsetMismatch):
        more["received"] = error.received
    if isinstance(error, service.ItemsRefused):
        more["errors"] = [
            {"pointer": f"/file/{place}", "message": str(refusal)[:400], "code": refusal.code}
            for place, refusal in error.refused
        ]
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(status, error.code, str(error), request_id, headers, **more)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, service.ServiceError | adapters.LensmountError)
    return answer_to(error, request.state.request_id)


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [
        {
            "pointer": _ascii("/" + "/".join(str(part)[:64] for part in found["loc"])),
            "message": found["msg"][:200] + _suggestion(request, found),
        }
        for found in error.errors()[:10]
    ]
    malformed = any(found["type"] == "json_invalid" for found in error.errors())
    status, code = (400, "bad_request") if malformed else (422, "invalid_request")
    first = f"{errors[0]['pointer']}: {errors[0]['message']}" if errors else "the request is not valid"
    return problem(
        status, code, f"{first}. Fix: see /docs for the expected request", request.state.request_id, errors=errors
    )


def _suggestion(request: Request, error: dict[str, Any]) -> str:
    """A suggestion for an unknown field of the body, or an empty text."""
    body = getattr(request.scope.get("route"), "body_field", None)
    annotation = getattr(getattr(body, "field_info", None), "annotation", None)
    models = get_args(annotation) or (annotation,)  # of one kind of body or another
    fields = {name for model in models for name in getattr(model, "model_fields", {})}
    if error["type"] != "extra_forbidden" or len(error["loc"]) != 2:
        return ""
    return "." + suggestion if (suggestion := did_you_mean(str(error["loc"][-1]), fields)) else ""


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, f"http_{error.status_code}")
    no_route = "found a path that ends with a slash, expected it without. Fix: leave out the slash at the end"
    if not _is_route(request, request.scope["path"].rstrip("/")):
        no_route = "found no such route. Fix: see /docs for the routes"
    detail = {
        404: no_route,
        405: "found a method that this route does not have. Fix: see /docs",
    }.get(error.status_code, http.HTTPStatus(error.status_code).phrase)
    return problem(error.status_code, code, detail, request.state.request_id, dict(error.headers or {}))


def _is_route(request: Request, path: str) -> bool:
    """Whether a path other than that of the request has a route."""
    if path == request.scope["path"]:
        return False
    asked = {**request.scope, "path": path}
    return any(route.matches(asked)[0] != Match.NONE for route in request.app.router.routes)


async def _on_disconnect(request: Request, _: Exception) -> JSONResponse:
    """Nobody reads this response. The work was cancelled."""
    return problem(400, "client_disconnected", "the client disconnected", request.state.request_id)


async def _on_memory(request: Request, error: Exception) -> JSONResponse:
    log.error("out of memory", request_id=request.state.request_id, exc_info=error)
    full = Unavailable(
        "the server has no memory left for this request. Fix: try again later, or send less in one request",
        code="out_of_memory",
        retry_after_s=5,
    )
    return answer_to(full, request.state.request_id)


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and error.errno in _OF_MACHINE:
        log.error("disk or limit of the system", request_id=request.state.request_id, exc_info=error)
        return answer_to(fault_of_disk(error, "a file of the server"), request.state.request_id)
    log.error("unexpected error", request_id=request.state.request_id, exc_info=error)
    detail = "Internal error. Please report it with the request id and the server log."
    return problem(500, "internal_error", detail, request.state.request_id, HEADERS)  # sent past the middleware
