"""The options in PEFT's adapter_config.json, read one by one with the type that a formula needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import torch

from lensmount_adapters.errors import AdapterInvalid

PATTERN_CHARACTERS = 512  # of one pattern in the file; module paths are shorter


def number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """Return a finite number. Raises AdapterInvalid if it is missing without a default, or no number."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise _wrong(key, value, "a number")  # `abs`, because float() and isfinite() raise for an int of 400 digits
    return float(value)


def generator(config: Mapping[str, Any], key: str, default: int, offset: int = 0) -> torch.Generator:
    """Return torch's generator for the seed `config[key] + offset`. Raises AdapterInvalid if torch takes no such seed.

    What PEFT has drawn and not saved is drawn again with it.
    """
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise _wrong(key, value, "a whole number from 0, the seed")
    return torch.Generator().manual_seed(value + offset)


def count(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a whole number above 0. Raises AdapterInvalid if it is missing without a default, or no such number."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise _wrong(key, value, "a whole number above 0")
    return value


def flag(config: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """Return a boolean; null means the default. Raises AdapterInvalid for anything else."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def for_module(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The options as they apply to the module that PEFT knows as `path`: patterns replace `r` and the alphas.

    Key K of a pattern matches if `(.*\\.)?(K)$` does, and the first in the order of the file counts, as in PEFT.
    """
    own = dict(config)
    for pattern, keys in (("rank_pattern", ("r",)), ("alpha_pattern", ("lora_alpha", "alpha"))):
        found = _first_match(config.get(pattern), path)
        if found is not None:
            own.update({key: found for key in keys if key in config or key == keys[0]})
    own["feedforward"] = _is_feedforward(config.get("feedforward_modules"), path)
    return own


def _first_match(patterns: object, path: str) -> object:
    if not isinstance(patterns, Mapping):
        return None
    return next((value for key, value in patterns.items() if _matches(rf"(.*\.)?({key})", str(key), path)), None)


def _is_feedforward(modules: object, path: str) -> bool:
    if isinstance(modules, str):
        return _matches(modules, modules, path)
    return isinstance(modules, list) and any(isinstance(end, str) and path.endswith(end) for end in modules)


def _matches(pattern: str, key: str, path: str) -> bool:
    """Return True if the pattern matches the whole path. Names are compared as they are; others must be simple.

    A pattern of the file runs in Python's matcher, which some patterns keep busy for ever. One with a repeated group
    is refused.
    """
    if len(key) > PATTERN_CHARACTERS or re.search(r"[)\]}][*+?{]|[*+}][*+{]", key):
        raise AdapterInvalid(
            f"adapter_config.json: found the pattern {key[:80]!r}, expected a module's path, or a pattern of up to "
            f"{PATTERN_CHARACTERS} characters without repeated groups. Fix: list the paths one by one"
        )
    try:
        return re.fullmatch(pattern, path) is not None
    except re.error as error:
        raise AdapterInvalid(
            f"adapter_config.json: found the pattern {key[:80]!r} ({error}), expected a regular expression. "
            "Fix: write it as PEFT needs it"
        ) from error


def _wrong(key: str, value: object, expected: str) -> AdapterInvalid:
    found = "nothing" if value is None else repr(value)[:60]
    return AdapterInvalid(
        f"adapter_config.json, {key}: found {found}, expected {expected}. Fix: import the file as PEFT saved it"
    )
