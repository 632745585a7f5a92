"""The headers that protect a write: the digest of the body, and what must be there before."""

from __future__ import annotations

import base64
import hashlib
import re

from lensmount_client._errors import InvalidInput


def content_digest(content: bytes) -> str:
    """The header Content-Digest of RFC 9530, with which a server refuses bytes that changed on the way."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def if_matches(digest: str | None) -> dict[str, str]:
    """The header If-Match for a digest, or for "*": anything that exists. Raises InvalidInput."""
    if digest is None:
        return {}
    if digest != "*" and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise InvalidInput(
            f"if_match: found {digest[:80]!r}, expected a digest as sha256:... Fix: client.adapters.get(name).digest"
        )
    return {"If-Match": digest if digest == "*" else f'"{digest}"'}
