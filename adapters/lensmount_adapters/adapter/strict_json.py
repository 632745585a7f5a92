"""JSON from outside, read strictly: no duplicate keys, no NaN or infinity, no text that UTF-8 cannot encode."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn


def parse_json(text: str, parse_int: Callable[[str], int] = int) -> Any:
    """The value of a JSON text. Raises ValueError, or RecursionError if it is nested too deep."""
    value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_not_a_number, parse_int=parse_int)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # refuses 1e999 and lone surrogates
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an object has the same key twice, and parsers differ in which one they take")
    return fields


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
