"""How the progress of a long run is reported: to a callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int | None], object]  # done, and the total or None if it is unknown


def no_report(done: int, total: int | None) -> None:
    return None
