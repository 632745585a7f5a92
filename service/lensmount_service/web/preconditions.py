"""The headers with which a client protects a write: If-Match and If-None-Match, Content-Digest and Repr-Digest.

Digests are those of RFC 9530. A body is compared with them as it arrives, so before anything of it is stored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Annotated, Any

from fastapi import Depends, Request

from lensmount_service.errors import RequestError, RequestInvalid
from lensmount_service.store.precondition import Precondition, Tags

_ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_ENTITY_TAG = re.compile(r'\s*(?:W/)?"([\x21\x23-\x7e]*)"\s*')
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*")
_MOST_CHARACTERS = 4096


def expected_of(request: Request) -> Precondition:
    """What the request expects of the present state. Raises RequestError for headers that cannot be read."""
    return Precondition(_tags(request, "If-Match"), _tags(request, "If-None-Match"))


async def _expected(request: Request) -> Precondition:  # async, because FastAPI runs plain functions in a thread
    return expected_of(request)


Expected = Annotated[Precondition, Depends(_expected)]


def _tags(request: Request, name: str) -> Tags:
    text = ",".join(request.headers.getlist(name)).strip()
    if not text:
        return None
    if text == "*":
        return frozenset({"*"})
    found = [_ENTITY_TAG.fullmatch(part) for part in text[:_MOST_CHARACTERS].split(",")]
    if len(text) > _MOST_CHARACTERS or None in found:
        raise RequestError(f'{name}: found no list of ETags, expected * or "sha256:...". Fix: send the ETag in quotes')
    strong = name == "If-None-Match"  # a weak tag never meets If-Match
    parts = text.split(",")
    return frozenset(
        tag[1] for tag, part in zip(found, parts, strict=True) if tag and (strong or part.strip()[0] == '"')
    )


class BodyDigests:
    """`digests = BodyDigests(request)`, `digests.update(chunk)` for each, then `digests.check()`."""

    def __init__(self, request: Request) -> None:
        """Raises RequestError if a header cannot be read. Algorithms other than sha-256 and sha-512 are ignored."""
        self._wanted: list[tuple[str, str, bytes]] = []
        for name in ("Content-Digest", "Repr-Digest"):
            if name == "Repr-Digest" and "content-range" in request.headers:
                continue  # it is that of the complete upload, of which this is a part
            text = ",".join(request.headers.getlist(name))
            self._wanted += [(name, algorithm, digest) for algorithm, digest in _digests(name, text)]
        self._hashes: dict[str, Any] = {algorithm: _ALGORITHMS[algorithm]() for _, algorithm, _ in self._wanted}

    def update(self, data: bytes) -> None:
        for each in self._hashes.values():
            each.update(data)

    def check(self) -> None:
        """Raises RequestInvalid (`digest_mismatch`)."""
        for name, algorithm, wanted in self._wanted:
            if not hmac.compare_digest(self._hashes[algorithm].digest(), wanted):
                raise RequestInvalid(
                    f"{name}: found a body with another {algorithm} than the header says; nothing was stored. "
                    "Fix: send the file again",
                    code="digest_mismatch",
                )


def _digests(name: str, text: str) -> list[tuple[str, bytes]]:
    """The known digests of a header, a dictionary of byte sequences (RFC 8941)."""
    if not text.strip():
        return []
    malformed = f"{name}: found a header that cannot be read, expected like sha-256=:BASE64:. Fix: leave it out"
    parts = text.split(",") if len(text) <= _MOST_CHARACTERS else [""]
    members = [_MEMBER.fullmatch(part) for part in parts]
    known = []
    for member in members:
        if member is None:
            raise RequestError(malformed)
        if member[1] in _ALGORITHMS:
            try:
                digest = base64.b64decode(member[2], validate=True)
            except binascii.Error as error:
                raise RequestError(malformed) from error
            if len(digest) != _ALGORITHMS[member[1]]().digest_size:
                raise RequestError(malformed)
            known.append((member[1], digest))
    return known
