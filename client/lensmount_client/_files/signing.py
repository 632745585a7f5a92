"""Sign adapter files with a key of one's own (Ed25519, RFC 8032), and make such keys.

A signature is over `PREFIX` and the SHA-256 of the file, so it is of no use for anything but an adapter. The private
key is a PEM file that only its owner may read; the public one is a line of text for the operator of a server.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lensmount_client._errors import CannotWrite, InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX = b"lensmount-adapter-v1\0"
HEADER = "Lensmount-Signature"
MAX_NAME = 64


def create_key(path: Path, name: str) -> str:
    """Write a new private key to `path`, and return the line of its public key. Raises CannotWrite, InvalidInput."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    line = _line(key := Ed25519PrivateKey.generate(), name)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror}; no key was written. Fix: choose another --out") from error
    return line


def public_line_of(path: Path, name: str) -> str:
    """The line of the public key of a private one. Raises InvalidInput."""
    return _line(_read(path), name)


def sign_file(data: bytes, key_path: str | Path) -> str:
    """What the header says of a file with these bytes. Raises InvalidInput if there is no such key."""
    key = _read(Path(key_path))
    key_id = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16]
    signature = key.sign(PREFIX + hashlib.sha256(data).digest())
    return f"keyid={key_id}, sig={base64.b64encode(signature).decode()}"


def _line(key: Ed25519PrivateKey, name: str) -> str:
    """What an operator adds to the trusted keys."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput(
            f"found the name {name[:80]!r}, expected 1 to {MAX_NAME} printable characters. Fix: choose another name"
        )
    return f"ed25519 {base64.b64encode(key.public_key().public_bytes_raw()).decode()} {name.strip()}"


def _read(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    advice = "Fix: make one with lensmount keys create NAME"
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}, expected a private key. {advice}") from error
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path}: found no private key without a password. {advice}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(f"{path}: found a key of another kind, expected one of Ed25519. {advice}")
    return key


def signature_beside(file: Path) -> str | None:
    """What `lensmount adapters sign` wrote for a file, in FILE.sig; None if it wrote nothing. Raises InvalidInput."""
    path = file.with_name(f"{file.name}.sig")
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: found no signature that can be read. Fix: sign the file again") from error
