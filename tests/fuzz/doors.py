"""The doors for JSON and multipart bodies as a small app, called without a socket: thousands of bodies a second.

The doors are the real ones: `JsonRoute`, `read_json`, `read_multipart`, FastAPI's reading of a form, and the table that
turns errors into problem documents. Only what the routes do with a body that was read is left out.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from lensmount_service.web import problems
from lensmount_service.web.bodies import read_multipart, read_raw
from lensmount_service.web.job_schemas import JobSubmission
from lensmount_service.web.json_body import JsonRoute, parse_json, read_json
from lensmount_service.web.label_schemas import GivenLabels
from lensmount_service.web.labelstudio import Event, PredictRequest
from lensmount_service.web.schemas import DatasetEdits
from lensmount_service.web.token_schemas import NewToken
from lensmount_service.web.trust_schemas import AliasTarget

MAX_BYTES = 2**17
MAX_FILES = 4
FORMS: dict[str, type[BaseModel]] = {
    form.__name__: form for form in (GivenLabels, DatasetEdits, NewToken, PredictRequest, Event)
}
"""The forms of routes that read their bodies themselves; FastAPI reads the others."""


class Doors:
    """`status, body = await doors.send("/parts", b"multipart/form-data; boundary=B", [b"--B", b"--"])`.

    What the door accepted last is in `read`.
    """

    def __init__(self) -> None:
        self.read: Any = None
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # as the server does
        self._app = app = FastAPI()
        app.state.context = SimpleNamespace(settings=SimpleNamespace(max_json_bytes=MAX_BYTES))
        problems.install(app)
        router = APIRouter(route_class=JsonRoute)

        @router.put("/JobSubmission")
        async def submission(submission: JobSubmission) -> None:
            self.read = submission
            submission.hyper_parameters()
            submission.dataset_reference()

        @router.put("/AliasTarget")
        async def target(target: AliasTarget) -> None:
            self.read = target

        @router.put("/parts")
        async def parts(request: Request) -> None:
            self.read = await read_multipart(request, MAX_BYTES, MAX_FILES)

        @router.put("/value")
        async def value(request: Request) -> None:
            self.read = parse_json(await read_raw(request, MAX_BYTES))

        @router.put("/{form}")
        async def any_form(request: Request, form: str) -> None:
            self.read = await read_json(request, FORMS[form], MAX_BYTES, "see /docs")

        app.include_router(router)

    async def send(self, path: str, content_type: bytes | None, chunks: Sequence[bytes]) -> tuple[int, bytes]:
        """Status and body of the answer to a body that arrives in these chunks."""
        waiting = list(chunks)[::-1] or [b""]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            body = waiting.pop() if waiting else b""
            return {"type": "http.request", "body": body, "more_body": bool(waiting)}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [] if content_type is None else [(b"content-type", content_type)]
        scope = {"type": "http", "method": "PUT", "path": path, "query_string": b"", "headers": headers}
        await self._app(scope | {"state": {"request_id": "0" * 32}}, receive, send)
        await asyncio.sleep(0)  # as between two requests: the loop closes the streams that were left early
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def problem_of(status: int, body: bytes) -> str:
    """The code of a refusal. Raises AssertionError unless it is a small problem document with a status of its code."""
    problem = json.loads(body)
    assert len(body) < 4096
    assert status in (400, 413, 415, 422)
    assert problem["status"] == status
    assert problems.CODES[problem["code"]] == status
    return str(problem["code"])
