"""The headers of RFC 9530 for a body, by hashlib."""

from __future__ import annotations

import base64
import hashlib


def digest_header(data: bytes, algorithm: str = "sha-256") -> str:
    raw = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(raw).decode()}:"
