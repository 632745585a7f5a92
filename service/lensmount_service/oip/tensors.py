"""The values of one tensor of a request or an answer: JSON, raw bytes, or the typed contents of a gRPC message."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lensmount_service.errors import BodyTooLarge, RequestInvalid

Parameter = str | bool | int | float

BYTES, FP32, FP64 = "BYTES", "FP32", "FP64"
_NUMBERS = {FP32: "<f4", FP64: "<f8"}
_LENGTH = struct.Struct("<I")  # before each element of BYTES
_MOST_FLOAT = 3e38


@dataclass(frozen=True, slots=True, eq=False)
class GivenTensor:
    """A tensor of a request. `values` are raw bytes, or a list that may be nested."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: bytes | memoryview | Sequence[Any]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def elements(self, most: int) -> list[bytes]:
        """The elements of a tensor of BYTES. Texts are base64, and so are bytes whose `content_type` says so.

        Raises RequestInvalid, or BodyTooLarge (`batch_too_large`) for more than `most`.
        """
        if isinstance(self.values, bytes | memoryview):
            found: list[Any] = split(memoryview(self.values), most)
        else:
            found = _flat(self.values)
            if len(found) > most:
                raise too_many(len(found), most)
        is_base64 = self.parameters.get("content_type") == "base64"
        return [each if isinstance(each, bytes) and not is_base64 else self._decoded(each) for each in found]

    def floats(self, count: int) -> np.ndarray:
        """The `count` values of a tensor of FP32, float32 [count]. Raises RequestInvalid."""
        if isinstance(self.values, bytes | memoryview):
            if len(self.values) != 4 * count:
                raise self._wrong(f"{len(self.values)} bytes", f"{4 * count}: 4 for each value of its shape")
            return np.frombuffer(self.values, "<f4")
        values = _flat(self.values)
        if len(values) != count:
            raise self._wrong(f"{len(values)} values", f"{count}, as its shape says")
        if not all(type(value) in (int, float) for value in values):
            raise self._wrong("a value that is not a number", "numbers")
        try:
            wide = np.array(values, np.float64)
        except OverflowError as error:
            raise self._wrong("a number beyond 1.8e308", "smaller ones") from error
        return np.clip(wide, -_MOST_FLOAT, _MOST_FLOAT).astype(np.float32)

    def _decoded(self, value: Any) -> bytes:
        if not isinstance(value, str | bytes):
            raise self._wrong(f"a value of the JSON type {type(value).__name__}", "images as texts in base64")
        try:
            return binascii.a2b_base64(value, strict_mode=True)
        except ValueError as error:
            raise RequestInvalid(
                f"the input {self.name[:40]!r}: found text that is not base64, expected an image in base64. "
                'Fix: send base64.b64encode(data).decode(), or the bytes themselves with "binary_data_size"'
            ) from error

    def _wrong(self, found: str, expected: str) -> RequestInvalid:
        return RequestInvalid(
            f"the input {self.name[:40]!r}: found {found}, expected {expected}. "
            "Fix: send what `shape` and `datatype` say"
        )


@dataclass(frozen=True, slots=True, eq=False)
class AnswerTensor:
    """A tensor of an answer: an array of numbers, or a list of the elements of BYTES. `is_text` if they are UTF-8."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: np.ndarray | Sequence[bytes]
    is_text: bool = True

    def raw(self) -> bytes:
        """The bytes of the binary extension and of gRPC."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype(_NUMBERS[self.datatype]).tobytes()
        return b"".join(_LENGTH.pack(len(each)) + each for each in self.values)

    def json(self) -> list[Any]:
        """The values in a flat list. Elements that are not text are base64."""
        if isinstance(self.values, np.ndarray):
            values: list[Any] = self.values.ravel().tolist()
            return values
        return [(each if self.is_text else base64.b64encode(each)).decode() for each in self.values]


def split(raw: memoryview, most: int) -> list[bytes]:
    """The elements of a raw tensor of BYTES. Raises RequestInvalid, or BodyTooLarge for more than `most`."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(raw, at)[0] if start <= len(raw) else start
        if end > len(raw):
            raise RequestInvalid(
                f"found an element of BYTES that ends {end - len(raw)} bytes after its tensor, expected whole "
                "elements. Fix: write the length of each element in 4 bytes, little-endian, before it"
            )
        if len(found) == most:
            raise too_many(most + 1, most)
        found.append(bytes(raw[start:end]))
        at = end
    return found


def too_many(count: int, most: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"found {count} images or more in one request, expected at most {most}. Fix: send fewer at a time",
        code="batch_too_large",
    )


def _flat(values: Sequence[Any]) -> list[Any]:
    """The values of nested lists, in order."""
    return list(_each(values))


def _each(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _each(value)
        else:
            yield value
