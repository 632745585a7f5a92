"""What a write expects of the present state (RFC 9110, If-Match and If-None-Match); checked inside its transaction."""

from __future__ import annotations

from dataclasses import dataclass

from lensmount_service.errors import PreconditionFailed

Tags = frozenset[str] | None  # digests; "*" stands for any; None: nothing is expected


@dataclass(frozen=True, slots=True)
class Precondition:
    """`Precondition(if_match=frozenset({digest})).require(current)`; without arguments it is always met."""

    if_match: Tags = None
    if_none_match: Tags = None

    def require(self, current: str | None, new: str | None = None) -> None:
        """`current` is the digest of what is there now, None if nothing is. Raises PreconditionFailed.

        If-Match is met too if `new`, what the write would make, is there already: a client whose connection broke
        before the answer sends the same write again (RFC 9110, 13.1.1).
        """
        found = "nothing there" if current is None else f"the digest {current}"
        if self.if_match is not None and (current is None or not (self.if_match | {new}) & {current, "*"}):
            raise PreconditionFailed(
                f"If-Match: found {found}, expected another digest. Fix: read the present state and send its ETag"
            )
        if self.if_none_match is not None and current is not None and self.if_none_match & {current, "*"}:
            raise PreconditionFailed(
                f"If-None-Match: found {found}, expected it not to be there. Fix: choose another name, or send "
                "If-Match with this digest to replace it"
            )


ANY = Precondition()
