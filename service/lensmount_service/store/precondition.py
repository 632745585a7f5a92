"""What a write expects of the present state (RFC 9110, If-Match and If-None-Match); checked inside its transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lensmount_service.errors import PreconditionFailed

Tags = frozenset[str] | None  # ETags; "*" stands for any; None: nothing is expected


@dataclass(frozen=True, slots=True)
class Precondition:
    """`Precondition(if_match=frozenset({digest})).require(current)`; without arguments it is always met."""

    if_match: Tags = None
    if_none_match: Tags = None

    def require(self, current: str | None, new: str | None = None, also: str | None = None) -> None:
        """`current` is the ETag of what is there now, None if nothing is; `also` is another name of the same state.

        If-Match is met too if `new`, what the write makes, is there already: a client whose connection broke before
        the answer sends the same write again (RFC 9110, 13.1.1). Raises PreconditionFailed.
        """
        there = frozenset() if current is None else frozenset({current, "*", also or current})
        found = "nothing there" if current is None else f"the ETag {current}"
        already = current is not None and current == new
        if self.if_match is not None and not already and not self.if_match & there:
            raise PreconditionFailed(
                f"If-Match: found {found}, expected another one. Fix: read the present state and send its ETag"
            )
        if self.if_none_match is not None and self.if_none_match & there:
            raise PreconditionFailed(
                f"If-None-Match: found {found}, expected it not to be there. Fix: choose another name, or send "
                "If-Match with this ETag to replace it"
            )


ANY = Precondition()


def live_digest(rows: Sequence[Any], version: int | None = None) -> str | None:
    """The digest of a live version, by default of the latest; None if there is none. `rows` are ordered by version."""
    live = (row for row in reversed(rows) if not row.deleted and version in (None, row.version))
    return next((str(row.digest) for row in live), None)
