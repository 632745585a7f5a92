"""One request for an inference, as REST carries it: JSON, and the bytes of tensors behind the JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lensmount_service.errors import BodyTooLarge, RequestError, RequestInvalid
from lensmount_service.oip.tensors import BYTES, GivenTensor, Parameter
from lensmount_service.web.json_body import parse_form

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_TENSORS = 16
_AS_REQUEST = "send a request of the Open Inference Protocol v2; see docs/oip.md"
IMAGE = "image"
"""The input of encoded images, and the only one that a body without JSON has."""

Name = Annotated[str, StringConstraints(max_length=128)]
Parameters = Annotated[dict[Name, Parameter], Field(max_length=64)]


@dataclass(frozen=True, slots=True)
class AskedOutput:
    """An output that a request names. `classes` are the best classes instead of all values; 0 means the values."""

    name: str
    classes: int = 0
    is_binary: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """What a client asks of a model. `outputs` is empty for all of them."""

    inputs: Sequence[GivenTensor]
    outputs: Sequence[AskedOutput] = ()
    id: str | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def all_binary(self) -> bool:
        """Whether outputs that say nothing else are sent as raw bytes."""
        return self.parameters.get("binary_data_output") is True


class _Stated(BaseModel):
    """Members that the protocol does not have are ignored, as other servers do."""

    model_config = ConfigDict(extra="ignore", strict=True)
    name: Name
    parameters: Parameters = {}


class _Input(_Stated):
    shape: Annotated[list[int], Field(max_length=8)]
    datatype: Annotated[str, StringConstraints(max_length=16)]
    data: list[Any] | None = None


class _Head(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    id: Annotated[str, StringConstraints(max_length=256)] | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[list[_Stated], Field(max_length=MAX_TENSORS)] = []


def header_length_of(request: Request) -> int | None:
    """The length of the JSON before the tensors; None if the whole body is JSON. Raises RequestError."""
    stated = list(dict.fromkeys(request.headers.getlist(HEADER_LENGTH)))
    if not stated:
        return None
    if len(stated) > 1 or not (stated[0].isascii() and stated[0].isdecimal() and len(stated[0]) <= 12):
        raise RequestError(
            f"found no number in the header {HEADER_LENGTH}, expected the length of the JSON in bytes. "
            "Fix: count the bytes before the first tensor, as they are unpacked"
        )
    return int(stated[0])


def read_request(body: bytes, header_length: int | None, max_json_bytes: int) -> InferRequest:
    """The request of a body. Without any JSON, the body is one image, and the answer is raw bytes.

    Raises RequestError, RequestInvalid or BodyTooLarge.
    """
    if header_length == 0:
        return InferRequest((GivenTensor(IMAGE, BYTES, (1,), [body]),), parameters={"binary_data_output": True})
    length = len(body) if header_length is None else header_length
    if length > len(body):
        raise RequestError(
            f"found {HEADER_LENGTH}: {length} for a body of {len(body)} bytes, expected at most as many. "
            "Fix: count the bytes before the first tensor, as they are unpacked"
        )
    if length > max_json_bytes:
        raise BodyTooLarge(
            f"found {length} bytes of JSON, expected at most {max_json_bytes}. "
            f"Fix: send the tensors behind the JSON, with the header {HEADER_LENGTH}"
        )
    head = parse_form(body[:length], _Head, _AS_REQUEST)
    tensors = _Tail(memoryview(body)[length:])
    inputs = [tensors.given(stated) for stated in head.inputs]
    tensors.require_end()
    return InferRequest(inputs, [_asked(output, head.parameters) for output in head.outputs], head.id, head.parameters)


class _Tail:
    """The bytes behind the JSON, of which each tensor takes the next ones."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._taken = 0

    def given(self, stated: _Input) -> GivenTensor:
        size = stated.parameters.get("binary_data_size")
        if (size is None) == (stated.data is None):
            found = "neither" if size is None else "both"
            raise RequestInvalid(
                f"the input {stated.name[:40]!r}: found {found} of `data` and the parameter `binary_data_size`, "
                "expected one of them. Fix: send the values in one of these ways"
            )
        values: memoryview | list[Any] = self._next(stated.name, size) if stated.data is None else stated.data
        return GivenTensor(stated.name, stated.datatype, tuple(stated.shape), values, stated.parameters)

    def require_end(self) -> None:
        if left := len(self._data) - self._taken:
            raise RequestInvalid(
                f"found {left} bytes after the last tensor, expected none. "
                "Fix: state the size of each tensor in its parameter `binary_data_size`"
            )

    def _next(self, name: str, size: Parameter | None) -> memoryview:
        left = len(self._data) - self._taken
        if type(size) is not int or not 0 <= size <= left:
            found = f"{size} bytes" if type(size) is int and abs(size) < 10**12 else "no such number of bytes"
            raise RequestInvalid(
                f"the input {name[:40]!r}: found {found} in its parameter `binary_data_size`, expected a number from 0 "
                f"to {left}, what the body still has. Fix: state the size of the tensor, and send all of it"
            )
        self._taken += size
        return self._data[self._taken - size : self._taken]


def _asked(output: _Stated, request: Mapping[str, Parameter]) -> AskedOutput:
    binary = output.parameters.get("binary_data", request.get("binary_data_output") is True)
    return AskedOutput(output.name, classes_of(output.name, output.parameters), binary is True)


def classes_of(name: str, parameters: Mapping[str, Parameter]) -> int:
    """How many classes an output asks for by its parameter `classification`. Raises RequestInvalid."""
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise RequestInvalid(
            f"the output {name[:40]!r}: found no number of classes in its parameter `classification`, expected 1 or "
            "more. Fix: ask for the number of best classes that you want, or leave it out"
        )
    return classes
