"""The OpenAPI descriptions of bodies that the routes read themselves, and of the errors that all routes share."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from lensmount_service.web.error_members import ErrorMembers
from lensmount_service.web.label_schemas import GivenLabels
from lensmount_service.web.negotiation import GEOJSON, PNG
from lensmount_service.web.problems import MEDIA_TYPE
from lensmount_service.web.schemas import DatasetEdits, Problem
from lensmount_service.web.shared import Shared
from lensmount_service.web.token_schemas import NewToken

_BINARY = {"type": "string", "format": "binary"}
_EDITS = DatasetEdits.model_json_schema()
_LABELS = GivenLabels.model_json_schema()
_TOKEN = NewToken.model_json_schema(ref_template="#/components/schemas/{model}")


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem("The request cannot be read."),
    401: _problem("There is no valid token."),
    403: _problem("The token lacks the scope, or the request came from a page of another site."),
    404: _problem("There is no such adapter, dataset, job, version, alias or route."),
    406: _problem("`Accept` excludes every format of the response."),
    408: _problem("The head or the body of the request arrives too slowly."),
    409: _problem("Impossible in this state: an adapter of another backbone, a dataset in use, another upload offset."),
    410: _problem("The version was deleted."),
    412: _problem("If-Match or If-None-Match is not met; nothing was changed."),
    413: _problem("The request exceeds a limit of GET /limits."),
    414: _problem("The URI is too long."),
    415: _problem("The format is not supported."),
    421: _problem("This Host is not served."),
    422: _problem("The request is readable, but not valid."),
    429: _problem("The queue is full or a quota is used up; see Retry-After."),
    431: _problem("The headers are too large."),
    503: _problem("Temporarily unavailable; see Retry-After."),
    504: _problem("There was no result within the request's `timeout`."),
    507: _problem("The disk is full."),
}


def image_body() -> dict[str, Any]:
    files: dict[str, Any] = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": _BINARY}},
        "required": ["file"],
    }
    content: dict[str, Any] = {
        kind: {"schema": _BINARY}
        for kind in ("image/png", "image/jpeg", "image/webp", "image/tiff", "application/x-nifti", "application/x-npy")
    }
    content["application/octet-stream"] = {"schema": _BINARY}
    content["multipart/form-data"] = {"schema": files}
    return {"requestBody": {"required": True, "content": content}}


def mask_answers() -> dict[str, Any]:
    """The formats of a segmentation adapter's masks other than JSON."""
    return {PNG: {"schema": _BINARY}, GEOJSON: {"schema": {"type": "object"}}}


def overlay_answer() -> dict[str, Any]:
    """The format of an explanation other than JSON."""
    return {PNG: {"schema": _BINARY}}


def file_answer(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The media types of an answer that is a file."""
    return {200: {"content": {kind: {"schema": _BINARY} for kind in kinds}}}


def adapter_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}}}


def import_body() -> dict[str, Any]:
    content = {kind: {"schema": _BINARY} for kind in ("application/zip", "application/octet-stream")}
    return {"requestBody": {"required": True, "content": content}}


def dataset_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/zip": {"schema": _BINARY}}}}


def edits_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _EDITS}}}}


def labels_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _LABELS}}}}


def token_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _TOKEN}}}}


def adapter_form() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "file": _BINARY,
        "name": {"type": "string", "description": "Default: the name in the manifest."},
    }
    schema = {"type": "object", "properties": properties, "required": ["file"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


class DescribedApp(FastAPI):
    """FastAPI, with a description that says how a token is sent, so that /docs has a field for it.

    Every error that it answers has the members that clients of the path read. FastAPI's own route makes the description
    in the event loop, where a second of work would stop all requests. Here it has none: routes/docs.py gives what
    `described` makes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, openapi_url=None, docs_url=None, redoc_url=None)  # whose pages load from a CDN
        self._rendered = Shared(lambda: asyncio.to_thread(self._written), max_age_s=math.inf)

    def build_middleware_stack(self) -> ASGIApp:
        return ErrorMembers(super().build_middleware_stack())

    async def described(self) -> bytes:
        """The description as JSON. It is made once, in a thread, for the first who ask."""
        return (await self._rendered.get())[0]

    def _written(self) -> bytes:
        return json.dumps(self.openapi(), separators=(",", ":"), ensure_ascii=False).encode()

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()  # of all answers that refuse
        components.setdefault("securitySchemes", {})["token"] = {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of `lensmount tokens create`",
        }
        document["security"] = [{"token": []}, {}]  # an open server on loopback needs none
        return document
