"""Strict parsing of data from outside: unknown fields and ambiguous JSON are refused, and nothing is converted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError


def whole(value: object) -> object:
    """A BeforeValidator for `Literal[1, 2]`, which takes whatever equals a choice: True and 1.0 too."""
    if isinstance(value, bool | float):
        raise ValueError("Input should be a valid integer")
    return value


class Strict(BaseModel):
    """The base of all models that are read from files."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def parse_json(text: str, parse_int: Callable[[str], int] = int) -> Any:
    """The value of a JSON text without duplicate keys, NaN, infinity or text that UTF-8 cannot encode.

    Raises ValueError, or RecursionError if it is nested too deep.
    """
    value = json.loads(text, object_pairs_hook=distinct_keys, parse_constant=_not_a_number, parse_int=parse_int)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # refuses 1e999 and lone surrogates
    return value


def first_fault(error: ValidationError) -> tuple[str, str]:
    """Where the first fault is, such as "head.temperature", and what it is.

    Both are short and printable: pydantic repeats an unknown tag or key in full.
    """
    found = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part)[:80] for part in found["loc"])
    return _shown(where, 120), _shown(found["msg"], 200)


def _shown(text: str, most: int) -> str:
    short = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` for `json.loads` that raises ValueError if a key appears twice in one object."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice in one object, and parsers differ in which one they use")
    return fields


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
