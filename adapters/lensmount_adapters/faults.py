"""Named points at which tests make things fail: a full disk, a broken disk, no memory, a delay, a kill.

Each write that a client's request depends on passes such points, so that a test can stop it before and after every
step (the method of SQLite's own tests). In a server no plan is installed, and a point costs one comparison: 40 ns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Plan = Callable[[str], None]

_plan: Plan | None = None  # set by one thread, in tests only; read by all


def fault(point: str) -> None:
    """Let the installed plan act at this point. It may raise, wait or end the process. Does nothing in a server."""
    if _plan is not None:
        _plan(point)


@contextmanager
def installed(plan: Plan) -> Iterator[None]:
    """Let `plan(point)` act at every point until the end of the block, in all threads."""
    global _plan
    before, _plan = _plan, plan
    try:
        yield
    finally:
        _plan = before
