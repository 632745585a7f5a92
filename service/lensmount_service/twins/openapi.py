"""The OpenAPI descriptions of bodies and headers that the twins read themselves."""

from __future__ import annotations

from typing import Any

_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_DOCUMENT: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"type": "string", "description": "The image in base64"},
        "parameters": {
            "type": "object",
            "properties": {
                "top_k": {"type": "integer", "minimum": 1},
                "function_to_apply": {"type": "string", "enum": ["softmax", "sigmoid", "none"]},
            },
        },
    },
    "example": {"inputs": "iVBORw0KGgo...", "parameters": {"top_k": 2}},
}
_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/tiff", "application/octet-stream")


def _body(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {"type": "object", "required": [*required], "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _optional(name: str, place: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": False, "description": description, "schema": {"type": "string"}}


_NAME: dict[str, Any] = {"type": "string", "description": "An adapter, as in POST /predict", "example": "malaria"}

IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _DOCUMENT},
            **{kind: {"schema": _BINARY} for kind in _IMAGES},
        },
    }
}
INVOCATION_PARAMETERS: dict[str, Any] = {
    "parameters": [
        _optional("X-Amzn-SageMaker-Target-Model", "header", "The adapter"),
        _optional("X-Amzn-SageMaker-Custom-Attributes", "header", "The adapter, as in `adapter=malaria`"),
        _optional("adapter", "query", "The adapter"),
    ]
}
INVOCATION_ANSWERS: dict[str, Any] = {
    "application/jsonlines": {"schema": {"type": "string"}},
    "text/csv": {"schema": {"type": "string"}},
    "image/png": {"schema": _BINARY},
    "application/geo+json": {"schema": {"type": "object"}},
}
LOAD_BODY = _body(
    {
        "lora_name": _NAME,
        "lora_path": {
            "type": "string",
            "description": "A stored version of it: `malaria@3`, `malaria:prod` or a digest",
        },
    },
    "lora_name",
)
UNLOAD_BODY = _body({"lora_name": _NAME}, "lora_name")
