"""What a token allows. A scope names a kind of work, and `admin` includes the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from lensmount_service.errors import RequestInvalid

Scope = Literal["predict", "upload", "train", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
EVERY_SCOPE: frozenset[Scope] = frozenset(SCOPES)


def parse_scopes(text: str) -> frozenset[Scope]:
    """`parse_scopes("predict,upload")`. Raises RequestInvalid for anything but a list of scopes."""
    return require_scopes(part.strip() for part in text.split(",") if part.strip())


def require_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Raises RequestInvalid if there is none or one that does not exist."""
    given = set(names)
    known = frozenset(scope for scope in SCOPES if scope in given)
    if not given or len(known) != len(given):
        unknown = min(given - known, default="")
        raise RequestInvalid(
            f"found {f'the scope {unknown[:40]!r}' if unknown else 'no scope'}, expected some of {', '.join(SCOPES)}. "
            "Fix: --scopes predict, or several as predict,upload"
        )
    return known
