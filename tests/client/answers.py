"""A client whose requests never leave the process, and the responses that it gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from lensmount_client import Client
from lensmount_client._http.response import Response

DIGEST = "sha256:" + "0a" * 32
PREDICTION: dict[str, Any] = {
    "adapter": {"name": "malaria", "version": 3, "digest": DIGEST},
    "backbone": {"name": "tiny", "fingerprint": "sha256:" + "f" * 64},
    "predictions": [{"label": "parasitized", "score": 0.97}, {"label": "uninfected", "score": 0.03}],
    "request_id": "r-1",
    "timing_ms": {"queue": 0, "total": 4.5},
}
Handler = Callable[[httpx.Request], httpx.Response]


def mocked(handler: Handler, **options: Any) -> Client:
    return Client(transport=httpx.MockTransport(handler), **options)


def answering(*responses: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives these in turn, and the requests it got."""
    left, seen = list(responses), []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    return handle, seen


def good(**changes: Any) -> httpx.Response:
    return httpx.Response(200, json={**PREDICTION, **changes})


def said_no(status: int, code: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"code": code, "detail": "no"}, headers=named)


def refused(status: int, document: object = None, *, body: bytes | None = None, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, httpx.Headers(named), json.dumps(document).encode() if body is None else body)
