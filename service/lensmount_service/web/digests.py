"""Content-Digest and Repr-Digest (RFC 9530): a body is compared with them as it arrives, before anything is stored."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any

from fastapi import Request

from lensmount_service.errors import RequestError, RequestInvalid

_ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_NAMES = ("Content-Digest", "Repr-Digest")
_KEY = r"[a-z*][a-z0-9_.*-]*"
_MEMBER = re.compile(rf"\s*({_KEY})=:([A-Za-z0-9+/=]*):(?:;\s*{_KEY}(?:=[^,;\s]+)?)*\s*")  # a parameter says nothing
_MOST_CHARACTERS = 4096
_AS_SHA_256 = "Fix: send sha-256=:BASE64:, or leave the header out"


class BodyDigests:
    """`digests = BodyDigests(request)`, `digests.update(chunk)` for each, then `digests.check()`.

    Of several known algorithms all must fit, and unknown ones are then ignored. Of an algorithm that is stated
    twice the last digest counts, as in every dictionary of RFC 8941.
    """

    def __init__(self, request: Request) -> None:
        """Raises RequestError if a header cannot be read or has no algorithm that is known here."""
        self._wanted: list[tuple[str, str, bytes]] = []
        for name in _NAMES:
            if name == "Repr-Digest" and "content-range" in request.headers:
                continue  # it is that of the complete upload, of which this is a part
            text = ",".join(request.headers.getlist(name))
            self._wanted += [(name, algorithm, digest) for algorithm, digest in _digests(name, text).items()]
        self._hashes: dict[str, Any] = {algorithm: _ALGORITHMS[algorithm]() for _, algorithm, _ in self._wanted}

    def __bool__(self) -> bool:
        """Whether there is something to compare."""
        return bool(self._wanted)

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


def _digests(name: str, text: str) -> dict[str, bytes]:
    """The digests of known algorithms in a header, which is a dictionary of byte sequences."""
    if not text.strip():
        return {}
    malformed = f"{name}: found a header that cannot be read, expected like sha-256=:BASE64:. {_AS_SHA_256}"
    members = [_MEMBER.fullmatch(part) for part in text.split(",")] if len(text) <= _MOST_CHARACTERS else [None]
    known = {}
    for member in members:
        if member is None:
            raise RequestError(malformed)
        if member[1] not in _ALGORITHMS:
            continue
        try:
            digest = base64.b64decode(member[2] + "=" * (-len(member[2]) % 4), validate=True)  # padding is optional
        except binascii.Error as error:
            raise RequestError(malformed) from error
        if len(digest) != _ALGORITHMS[member[1]]().digest_size:
            raise RequestError(malformed)
        known[member[1]] = digest
    if not known:
        raise RequestError(
            f"{name}: found no algorithm that this server knows, expected {' or '.join(_ALGORITHMS)}. {_AS_SHA_256}"
        )
    return known
