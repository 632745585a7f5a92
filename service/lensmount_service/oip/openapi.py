"""The OpenAPI descriptions of bodies that the protocol's routes read themselves."""

from __future__ import annotations

from typing import Any

_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "enum": ["image", "input"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string", "enum": ["BYTES", "FP32"]},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}, "description": "Images in base64, or the values of the network's input"},
    },
}
_OUTPUT: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "enum": ["scores", "label", "decision", "masks"]},
        "parameters": {"type": "object"},
    },
}
_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
    "example": {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["iVBORw0KGgo..."]}]},
}
_REPOSITORY: dict[str, Any] = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}, "parameters": {"type": "object"}},
}

INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _REQUEST},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
REPOSITORY_BODY: dict[str, Any] = {"requestBody": {"content": {"application/json": {"schema": _REPOSITORY}}}}
VERSION_PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": "version",
            "in": "path",
            "required": True,
            "description": "A number, an alias, or `sha256:...`",
            "schema": {"type": "string"},
        }
    ]
}
