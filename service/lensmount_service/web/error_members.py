"""Members that the clients of another protocol read from an error, next to those of problem+json.

They are added to the answer of the whole application, so that errors of every middleware and of the transport have
them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lensmount_service.web.problems import MEDIA_TYPE

Members = Callable[[Mapping[str, Any]], dict[str, Any]]


def _with_text(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Clients of the Open Inference Protocol and of Hugging Face show `error` and nothing else, so it has the code."""
    return {"error": _text(problem)}


def _with_object(problem: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of vLLM and OpenAI."""
    status = problem["status"]
    kind = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}.get(status, problem["title"])
    return {"error": {"message": _text(problem), "type": kind, "param": None, "code": status}}


def _text(problem: Mapping[str, Any]) -> str:
    return f"{problem['code']}: {problem['detail']}"


MEMBERS: dict[str, Members] = {"/v2": _with_text, "/v1": _with_object, "/hf": _with_text}
"""The members of an error, by the first part of the path."""


def extended(path: str, response: JSONResponse) -> JSONResponse:
    """A problem document with the members that clients of this path read."""
    members = _members_of(path.partition("?")[0])
    if members is None:
        return response
    headers = {
        name: value for name, value in response.headers.items() if name not in ("content-length", "content-type")
    }
    document = json.loads(bytes(response.body))
    return JSONResponse(document | members(document), response.status_code, headers, MEDIA_TYPE)


class ErrorMembers:
    """ASGI application around another one: `ErrorMembers(app)`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        members = _members_of(scope["path"]) if scope["type"] == "http" else None
        if members is None:
            await self.app(scope, receive, send)
            return
        held: Message | None = None  # the start of an error, until its body is complete
        body = b""

        async def send_extended(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start" and _is_problem(message):
                held = message
            elif held is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    document = json.loads(body)
                    text = JSONResponse(document | members(document)).body
                    MutableHeaders(scope=held)["content-length"] = str(len(text))
                    await send(held)
                    await send({"type": "http.response.body", "body": text})

        await self.app(scope, receive, send_extended)


def _members_of(path: str) -> Members | None:
    return next((found for start, found in MEMBERS.items() if path == start or path.startswith(f"{start}/")), None)


def _is_problem(message: Message) -> bool:
    return MutableHeaders(scope=message).get("content-type", "") == MEDIA_TYPE
