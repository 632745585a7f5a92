"""Signatures of adapters (Ed25519, RFC 8032): who made a file, checked when it comes and whenever it is used.

A signature is over `PREFIX` and the SHA-256 of the file, so it is of no use for anything but an adapter. It is kept
with the version, and each use decides by the keys that are trusted then: a key that is taken out of
the file is trusted no longer, neither for uploads nor for what it signed before.

| attribute | threads | lock or owner |
|---|---|---|
| `_keys`, `_looked_at`, `_stamp`, `_known` | all | `_lock` |
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from lensmount_service.errors import Unavailable, Unsigned, Unusable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

log = structlog.get_logger(__name__)

PREFIX = b"lensmount-adapter-v1\0"
HEADER = "Lensmount-Signature"
LOOK_S = 1.0  # between two looks at the files of trusted keys
MAX_KNOWN = 10_000  # results that are kept in memory
OWN = "this server"  # the name of the own key

_TEXT = re.compile(r"keyid=(?P<key>[0-9a-f]{16}), ?sig=(?P<signature>[A-Za-z0-9+/]{86}==)")
_LINE = re.compile(r"ed25519 (?P<key>[A-Za-z0-9+/]{43}=)(?: (?P<name>\S.{0,63}))?")
_SIGN = "Fix: sign it with a key that this server trusts: lensmount adapters push FILE --key KEY"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key and the name that its line gives it."""

    name: str
    public: Ed25519PublicKey


class Signatures:
    """`signatures.checked(digest, text)` before a file is stored, `signatures.require(version)` before it is used."""

    def __init__(
        self,
        trusted: Path | None = None,
        own_key: Path | None = None,
        *,
        required: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trusted` is a file with a key in each line, or a folder of such files that end in .pub.

        Raises Unavailable if a key cannot be read, or if the library for signatures is not installed.
        """
        self.required = required
        self._trusted = trusted
        self._clock = clock
        self._lock = threading.Lock()
        self._own = None if own_key is None else _private(own_key)
        self._keys: Mapping[str, TrustedKey] = {}
        self._looked_at = -LOOK_S
        self._stamp: object = None
        self._known: dict[tuple[str, str], str | None] = {}
        if trusted is not None or own_key is not None:
            self._look()

    def checked(self, digest: str, text: str | None) -> str | None:
        """The signature of a file that is to be stored, None if it needs none. Raises Unsigned."""
        if text is None:
            if self.required:
                raise Unsigned(f"found an adapter without a signature, expected one in {HEADER}. {_SIGN}")
            return None
        match = _TEXT.fullmatch(text)
        if match is None:
            raise Unsigned(
                f"{HEADER}: found a signature that cannot be read, expected keyid=16 HEX DIGITS, sig=BASE64. {_SIGN}",
                code="signature_invalid",
            )
        if self._trusted is None and self._own is None:
            return text  # nobody asks for it here; it is kept for a time when somebody does
        if match["key"] not in self._now():
            raise Unsigned(
                f"found a signature by the key {match['key']}, which this server does not trust. {_SIGN}, "
                "or ask its operator to add this one",
                code="signature_key_unknown",
            )
        if self.signer(digest, text) is None:
            raise Unsigned(
                f"found a signature by the key {match['key']} that does not belong to these bytes. {_SIGN}",
                code="signature_invalid",
            )
        return text

    def own(self, digest: str) -> str | None:
        """The server's own signature of what it made itself: by a job, from another tool's file, or by rounding.

        None without a key of its own, if signatures are not required. Raises Unsigned if they are.
        """
        self.require_own()
        return None if self._own is None else signed(self._own, digest)

    def require_own(self) -> None:
        """Raises Unsigned if the server could not store what it makes itself."""
        if self.required and self._own is None:
            raise Unsigned(
                "found an adapter that this server makes itself and cannot sign, and signatures are required. "
                "Fix: make it elsewhere and sign it there, or ask the operator to set LENSMOUNT_SIGNING_KEY"
            )

    def signer(self, digest: str, text: str | None) -> str | None:
        """The name of the trusted key that signed these bytes; None if none did."""
        if text is None:
            return None
        keys = self._now()
        with self._lock:
            if (digest, text) in self._known:
                return self._known[digest, text]
        found = _signer(keys, digest, text)
        with self._lock:
            if keys is self._keys:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[digest, text] = found
        return found

    def accepts(self, digest: str, text: str | None) -> bool:
        """Whether a version may be used."""
        return not self.required or self.signer(digest, text) is not None

    def require(self, title: str, digest: str, text: str | None) -> None:
        """Raises Unusable (`adapter_untrusted`) for a version that may not be used; `title` names it."""
        if not self.accepts(digest, text):
            raise Unusable(
                f"{title} is not signed by a key that this server trusts now. Fix: sign it again and push it: "
                "lensmount adapters push FILE --key KEY",
                code="adapter_untrusted",
            )

    def _now(self) -> Mapping[str, TrustedKey]:
        """The keys that are trusted now; a change of the files counts within a second."""
        with self._lock:
            is_fresh = self._clock() - self._looked_at < LOOK_S
        if not is_fresh:
            try:
                self._look()
            except Unavailable as error:
                log.error("no key is trusted while they cannot be read", reason=str(error))
                with self._lock:
                    self._keys, self._stamp, self._known = {}, None, {}
        return self._keys

    def _look(self) -> None:
        files = [] if self._trusted is None else _files(self._trusted)
        try:
            stamp = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in files]
        except OSError as error:
            raise Unavailable(
                f"{self._trusted}: cannot read the trusted keys ({error.strerror}). Fix: set LENSMOUNT_TRUSTED_KEYS to "
                "a file with a public key in each line, or to a folder of them",
                code="store_unavailable",
            ) from error
        with self._lock:
            self._looked_at = self._clock()
            if stamp == self._stamp:
                return
        keys = {key_id(key.public): key for path in files for key in _read(path)}
        if self._own is not None:
            keys.setdefault(key_id(self._own.public_key()), TrustedKey(OWN, self._own.public_key()))
        with self._lock:
            self._keys, self._stamp, self._known = keys, stamp, {}


def signed(key: Ed25519PrivateKey, digest: str) -> str:
    """What the header says: the id of the key, and its signature of the file with this digest."""
    signature = base64.b64encode(key.sign(_message(digest))).decode()
    return f"keyid={key_id(key.public_key())}, sig={signature}"


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the SHA-256 of the raw key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _message(digest: str) -> bytes:
    return PREFIX + bytes.fromhex(digest.removeprefix("sha256:"))


def _signer(keys: Mapping[str, TrustedKey], digest: str, text: str) -> str | None:
    from cryptography.exceptions import InvalidSignature

    match = _TEXT.fullmatch(text)
    key = None if match is None else keys.get(match["key"])
    if match is None or key is None:
        return None
    try:
        key.public.verify(base64.b64decode(match["signature"]), _message(digest))
    except InvalidSignature:
        return None
    return key.name


def _files(trusted: Path) -> list[Path]:
    return sorted(trusted.glob("*.pub")) if trusted.is_dir() else [trusted]


def _read(path: Path) -> list[TrustedKey]:
    """The keys of a file. Lines that begin with # are comments. Raises Unavailable."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise Unavailable(
                f"{path}, line {number}: found no public key, expected ed25519 BASE64 NAME. "
                "Fix: copy the line that lensmount keys create printed",
                code="store_unavailable",
            )
        name = match["name"] or path.stem
        found.append(TrustedKey(name, Ed25519PublicKey.from_public_bytes(base64.b64decode(match["key"]))))
    return found


def _private(path: Path) -> Ed25519PrivateKey:
    """Raises Unavailable."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: object = None
    with contextlib.suppress(OSError, ValueError, TypeError):
        key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise Unavailable(
            f"{path}: found no private key of Ed25519 that can be read. Fix: make one with lensmount keys create NAME",
            code="store_unavailable",
        )
    return key
