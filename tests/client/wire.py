"""The pieces of many responses of the tiny server, in the form of the real one."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

FINGERPRINT = "sha256:" + "f" * 64


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def stored_zip(**files: str) -> bytes:
    """A zip of uncompressed files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def problem(status: int, code: str, detail: str) -> tuple[int, Any, dict[str, str]]:
    document = {"type": f"urn:lensmount:problem:{code}", "title": code, "status": status, "detail": detail}
    headers = {"Content-Type": "application/problem+json"}
    return status, document | {"code": code, "request_id": "r-2"}, headers


STATS: dict[str, Any] = {
    "since": "2026-01-02T03:04:05.000Z",
    "requests": {"200": 41, "413": 1},
    "images": 82,
    "decisions": {"accept": 80, "uncertain": 2},
    "mean_ms": 12.5,
    "last_used": None,
}

MANIFEST: dict[str, Any] = {
    "method": "lora",
    "labels": ["parasitized", "uninfected"],
    "backbone": {"name": "tiny", "fingerprint": FINGERPRINT},
    "training": {"metrics": {"test": {"accuracy": 0.9512}, "images": 2600}},
    "license": "CC0-1.0",
}
