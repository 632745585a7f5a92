"""POST /explain: from a question to a Call, and from its response to an explanation or an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lensmount_client._api.adapters import BYTES
from lensmount_client._api.explanation import Explanation
from lensmount_client._api.read import body_of, read_adapter_id, read_backbone
from lensmount_client._errors import InvalidInput, UnexpectedResponse
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import Reference

PNG = "image/png"
METHODS = ("cam", "layercam", "occlusion")


@dataclass(frozen=True)
class Question:
    """What is asked of one image. Without a label, it is the one with the best score."""

    adapter: str
    label: str | None = None
    method: str = "cam"
    timeout_s: float | None = None


def explain(image: bytes, question: Question) -> Call[Explanation]:
    reference = Reference.parse(question.adapter)

    def read(response: Response) -> Explanation:
        fields = JsonFields.of(response)
        adapter = read_adapter_id(fields.child("adapter"))
        reference.check(adapter, fields.string("request_id"))
        grid, size, box = fields.integers("grid"), fields.integers("size"), fields.numbers("box")
        values, timing = fields.number_rows("values"), fields.child("timing_ms")
        if (len(grid), len(size), len(box)) != (2, 2, 4) or grid != (len(values), len(values[0]) if values else 0):
            raise UnexpectedResponse(
                f"found a grid of {list(grid)} at {list(box)}, expected rows and columns of the values and four edges",
                response.request_id,
            )
        if 0 in grid or any(len(row) != grid[1] for row in values):
            raise UnexpectedResponse(f"found values that are not {grid[0]} x {grid[1]} numbers", response.request_id)
        return Explanation(
            label=fields.string("label"),
            score=fields.number("score"),
            method=fields.string("method"),
            grid=(grid[0], grid[1]),
            values=values,
            size=(size[0], size[1]),
            box=(box[0], box[1], box[2], box[3]),
            adapter=adapter,
            backbone=read_backbone(fields.child("backbone")),
            request_id=fields.string("request_id"),
            timing_ms={step: timing.number(step) for step in timing.value},
            image=image,
        )

    return Call("POST", "/explain", read, **_request(image, question, "application/json"))


def explanation_png(image: bytes, question: Question) -> Call[bytes]:
    Reference.parse(question.adapter)
    return Call("POST", "/explain", lambda response: body_of(response, PNG), **_request(image, question, PNG))


def _request(image: bytes, question: Question, accept: str) -> dict[str, Any]:
    if question.method not in METHODS:
        raise InvalidInput(f"method: found {question.method!r}, expected one of {', '.join(METHODS)}")
    params: dict[str, str | int] = {"adapter": question.adapter, "method": question.method}
    if question.label is not None:
        params["label"] = question.label
    if question.timeout_s is not None:
        params["timeout"] = f"{question.timeout_s:g}"
    return {"params": params, "content": image, "content_type": BYTES, "headers": {"Accept": accept}}
