"""Compile a regular expression that a user wrote."""

from __future__ import annotations

import re


def compile_pattern(expression: str | None, error_type: type[Exception], option: str = "") -> re.Pattern[str] | None:
    """Compile `expression`; None stays None. Raises `error_type`, whose message begins with `option`."""
    if expression is None:
        return None
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        named = f"{option}: " if option else ""
        raise error_type(
            f"{named}found {expression[:80]!r}, which is not a regular expression ({str(error)[:80]}). "
            "Fix: correct it; Python's re module defines the syntax"
        ) from error
