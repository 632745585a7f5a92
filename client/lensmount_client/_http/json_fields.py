"""Read a JSON response field by field. Errors name the path of a field that is missing or has the wrong type."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn

from lensmount_client._errors import UnexpectedResponse
from lensmount_client._http.response import Response
from lensmount_client._reference import DIGEST


class JsonFields:
    """`JsonFields.of(response).child("adapter").string("name")`. Raises UnexpectedResponse."""

    def __init__(self, value: Any, path: str, request_id: str | None) -> None:
        self._path = path
        self._request_id = request_id
        if not isinstance(value, dict):
            self._fail(path or "the response", value, "an object")
        self.value: dict[str, Any] = value

    @classmethod
    def of(cls, response: Response) -> JsonFields:
        try:
            value = json.loads(response.body)
        except (ValueError, RecursionError) as error:
            raise UnexpectedResponse(
                f"found status {response.status} with {response.content_type or 'no content type'} "
                f"that is not JSON ({error}), expected a response of a lensmount server. Fix: check base_url",
                response.request_id,
            ) from error
        return cls(value, "", response.request_id)

    def string(self, key: str) -> str:
        value = self._value(key)
        return value if isinstance(value, str) else self._fail(self._name(key), value, "a string")

    def digest(self, key: str) -> str:
        """A text that is safe as a part of paths."""
        value = self.string(key)
        return value if DIGEST.fullmatch(value) else self._fail(self._name(key), value, "sha256:<64 hex>")

    def integer(self, key: str) -> int:
        value = self._value(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._fail(self._name(key), value, "a whole number")

    def number(self, key: str) -> float:
        value = self._value(key)
        if _is_number(value):
            return float(value)
        self._fail(self._name(key), value, "a number")

    def boolean(self, key: str) -> bool:
        value = self._value(key)
        return value if isinstance(value, bool) else self._fail(self._name(key), value, "true or false")

    def time(self, key: str) -> datetime:
        text = self.string(key)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self._fail(self._name(key), text, "an ISO 8601 time")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def string_or_none(self, key: str) -> str | None:
        return None if self.value.get(key) is None else self.string(key)

    def integer_or_none(self, key: str) -> int | None:
        return None if self.value.get(key) is None else self.integer(key)

    def number_or_none(self, key: str) -> float | None:
        return None if self.value.get(key) is None else self.number(key)

    def time_or_none(self, key: str) -> datetime | None:
        return None if self.value.get(key) is None else self.time(key)

    def child_or_none(self, key: str) -> JsonFields | None:
        return None if self.value.get(key) is None else self.child(key)

    def counts(self, key: str) -> dict[str, int]:
        """An object from names to whole numbers."""
        child = self.child(key)
        return {name: child.integer(name) for name in child.value}

    def child(self, key: str) -> JsonFields:
        return JsonFields(self._value(key), self._name(key), self._request_id)

    def children(self, key: str) -> Iterator[JsonFields]:
        for index, value in enumerate(self._list(key)):
            yield JsonFields(value, f"{self._name(key)}[{index}]", self._request_id)

    def strings(self, key: str) -> tuple[str, ...]:
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            self._fail(self._name(key), values, "a list of strings")
        return tuple(values)

    def integers(self, key: str) -> tuple[int, ...]:
        values = self._list(key)
        if not all(isinstance(value, int) for value in values):
            self._fail(self._name(key), values, "a list of whole numbers")
        return tuple(values)

    def numbers(self, key: str) -> tuple[float, ...]:
        values = self._list(key)
        if not all(_is_number(value) for value in values):
            self._fail(self._name(key), values, "a list of numbers")
        return tuple(float(value) for value in values)

    def number_rows(self, key: str) -> tuple[tuple[float, ...], ...]:
        """A list of lists of numbers."""
        rows = self._list(key)
        if not all(isinstance(row, list) and all(_is_number(value) for value in row) for row in rows):
            self._fail(self._name(key), rows, "a list of lists of numbers")
        return tuple(tuple(float(value) for value in row) for row in rows)

    def _list(self, key: str) -> list[Any]:
        value = self._value(key)
        return value if isinstance(value, list) else self._fail(self._name(key), value, "a list")

    def _value(self, key: str) -> Any:
        if key not in self.value:
            raise UnexpectedResponse(
                f"found a response without {self._name(key)}, expected this field", self._request_id
            )
        return self.value[key]

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _fail(self, name: str, found: Any, expected: str) -> NoReturn:
        shown = repr(found)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise UnexpectedResponse(f"{name}: found {shown}, expected {expected}", self._request_id)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
