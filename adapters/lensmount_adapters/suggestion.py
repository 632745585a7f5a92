"""What somebody who mistyped a name may have meant."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

MAX_NAMES = 1000  # compared with each other in some 10 ms; a server must not work longer for a name that is wrong
MAX_CHARACTERS = 200
LIKENESS = 0.7  # of 1: "malara" and "malaria" have 0.92, "cells" and "tiles" 0.4


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'malaria'?" with the space before it, or nothing where no name is like this one."""
    if len(name) > MAX_CHARACTERS:
        return ""
    close = difflib.get_close_matches(name, itertools.islice(known, MAX_NAMES), n=1, cutoff=LIKENESS)
    return f" Did you mean {close[0]!r}?" if close else ""
