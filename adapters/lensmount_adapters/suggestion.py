"""Suggest the name that a mistyped one may have meant."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

MAX_NAMES = 1000  # compared in about 10 ms; a wrong name must not keep a server busy for longer
MAX_CHARACTERS = 200
LIKENESS = 0.7  # from 0 to 1: "malara" and "malaria" score 0.92, "cells" and "tiles" 0.4


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'malaria'?" with a leading space, or "" if no known name is similar."""
    if len(name) > MAX_CHARACTERS:
        return ""
    close = difflib.get_close_matches(name, itertools.islice(known, MAX_NAMES), n=1, cutoff=LIKENESS)
    return f" Did you mean {close[0]!r}?" if close else ""
