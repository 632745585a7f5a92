"""Keys and signatures, checked with cryptography's own classes and with what the server does."""

from __future__ import annotations

import base64
import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lensmount_client import CannotWrite, InvalidInput
from lensmount_client._files.signing import create_key, public_line_of, sign_file, signature_beside

DATA = b"the bytes of an adapter"


def test_a_signature_is_over_the_prefix_and_the_digest_of_the_file(tmp_path: Path) -> None:
    kind, key, name = create_key(tmp_path / "reader1.key", "Lab A").split(" ", 2)
    raw = base64.b64decode(key)

    said = sign_file(DATA, tmp_path / "reader1.key")

    assert (kind, name) == ("ed25519", "Lab A")
    assert said[:22] == f"keyid={hashlib.sha256(raw).hexdigest()[:16]}"
    signature = base64.b64decode(said.partition("sig=")[2])
    message = b"lensmount-adapter-v1\0" + hashlib.sha256(DATA).digest()
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)  # raises if it is another


def test_a_private_key_is_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "reader1.key"
    line = create_key(path, "Reader1")
    before = path.read_bytes()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_line_of(path, "Reader1") == line
    with pytest.raises(CannotWrite, match=r"reader1\.key.*Fix: choose another --out"):
        create_key(path, "Reader1")
    with pytest.raises(CannotWrite):
        create_key(tmp_path / "none" / "reader1.key", "Reader1")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb"])
def test_a_name_must_fit_into_a_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="Fix: choose another name"):
        create_key(tmp_path / "reader1.key", name)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_key_is_said_with_the_way_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "rsa").write_bytes(rsa)
    for name in ("text", "rsa", "none"):
        with pytest.raises(InvalidInput, match=r"Fix: make one with lensmount keys create NAME"):
            sign_file(DATA, tmp_path / name)


def test_the_signature_beside_a_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "cells.safetensors"
    assert signature_beside(file) is None
    (tmp_path / "cells.safetensors.sig").write_text("keyid=1, sig=2\n")
    assert signature_beside(file) == "keyid=1, sig=2"
    (tmp_path / "cells.safetensors.sig").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="Fix: sign the file again"):
        signature_beside(file)
