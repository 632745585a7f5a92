"""Turns errors into the status, the details and the metadata of a gRPC call, with the codes of problem+json."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import structlog

from lensmount_adapters.errors import LensmountError
from lensmount_service.errors import ServiceError, Unavailable
from lensmount_service.web.problems import status_of

log = structlog.get_logger(__name__)

MOST_DETAIL = 2000  # characters; the headers of an answer have room for 8 KB

OF_HTTP = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    410: grpc.StatusCode.NOT_FOUND,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    421: grpc.StatusCode.PERMISSION_DENIED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call is refused. `http_status` is the status of the same refusal over HTTP."""

    status: grpc.StatusCode
    details: str
    metadata: tuple[tuple[str, str], ...]
    http_status: int

    @property
    def code(self) -> str:
        """That of the same refusal over HTTP."""
        return dict(self.metadata)["lensmount-code"]


def refusal_of(error: Exception, request_id: str) -> Refusal:
    """An error that is none of ours is a fault of the server, which the log has."""
    if isinstance(error, MemoryError):
        error = Unavailable(
            "the server has no memory left for this request. Fix: try again later, or send less in one request",
            code="out_of_memory",
            retry_after_s=5,
        )
    if not isinstance(error, ServiceError | LensmountError):
        log.error("unexpected error", request_id=request_id, exc_info=error)
        text = "internal_error: Internal error. Please report it with the request id and the server log."
        return Refusal(grpc.StatusCode.INTERNAL, text, _metadata("internal_error", request_id), 500)
    http_status = status_of(error)
    lasting = bool(getattr(error, "lasting", False))
    status = grpc.StatusCode.FAILED_PRECONDITION if lasting else OF_HTTP[http_status]
    metadata = _metadata(error.code, request_id)
    retry_after_s: int | None = getattr(error, "retry_after_s", None)
    if http_status in (429, 503) and not lasting:
        metadata = (*metadata, ("retry-after", str(retry_after_s or 1)))
    return Refusal(status, f"{error.code}: {error}"[:MOST_DETAIL], metadata, http_status)


def _metadata(code: str, request_id: str) -> tuple[tuple[str, str], ...]:
    return ("lensmount-code", code), ("x-request-id", request_id)
