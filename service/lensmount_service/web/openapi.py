"""What /docs says of bodies that the routes read themselves, and of the errors that all of them share."""

from __future__ import annotations

from typing import Any

from lensmount_service.web.negotiation import GEOJSON, PNG
from lensmount_service.web.problems import MEDIA_TYPE
from lensmount_service.web.schemas import Problem

_BINARY = {"type": "string", "format": "binary"}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem("The request cannot be read."),
    401: _problem("No valid token."),
    403: _problem("A page of another site asked."),
    404: _problem("No such adapter, dataset, job, version, alias or route."),
    406: _problem("No form of the answer that `Accept` takes."),
    409: _problem("Not in this state: another backbone's adapter, a dataset in use, an upload that stands elsewhere."),
    410: _problem("The version was deleted."),
    413: _problem("Over a limit of GET /limits."),
    414: _problem("The URI is too long."),
    415: _problem("Not a format that is read."),
    421: _problem("A Host that is not served."),
    422: _problem("Read, but not valid."),
    429: _problem("The queue is full; see Retry-After."),
    431: _problem("The headers are too large."),
    503: _problem("Not now; see Retry-After."),
    504: _problem("Not answered within the request's `timeout`."),
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
    """The forms of the masks of a segmentation adapter beside the JSON document."""
    return {PNG: {"schema": _BINARY}, GEOJSON: {"schema": {"type": "object"}}}


def adapter_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}}}


def dataset_body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/zip": {"schema": _BINARY}}}}


def adapter_form() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "file": _BINARY,
        "name": {"type": "string", "description": "Default: the name in the manifest."},
    }
    schema = {"type": "object", "properties": properties, "required": ["file"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
