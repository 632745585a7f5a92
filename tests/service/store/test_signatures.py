"""Signatures against those that cryptography's own key makes, with keys that come, go and are not keys."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lensmount_client._files import signing
from lensmount_service.errors import Unavailable, Unsigned, Unusable
from lensmount_service.store import signatures
from lensmount_service.store.signatures import LOOK_S, Signatures

DATA = b"the bytes of an adapter"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
OTHER = f"sha256:{hashlib.sha256(b'other bytes').hexdigest()}"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 2 * LOOK_S
        return self.now


def line(key: Ed25519PrivateKey, name: str) -> str:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"ed25519 {base64.b64encode(raw).decode()} {name}\n"


def by(key: Ed25519PrivateKey, data: bytes = DATA, prefix: bytes = b"lensmount-adapter-v1\0") -> str:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signature = key.sign(prefix + hashlib.sha256(data).digest())
    return f"keyid={hashlib.sha256(raw).hexdigest()[:16]}, sig={base64.b64encode(signature).decode()}"


@pytest.fixture(scope="module")
def reader1() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def stranger() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def trusted(tmp_path: Path, reader1: Ed25519PrivateKey) -> Path:
    (path := tmp_path / "trusted").write_text(f"# our keys\n\n{line(reader1, 'Lab A')}")
    return path


def test_a_signature_by_a_trusted_key_is_taken_and_names_its_signer(trusted: Path, reader1: Ed25519PrivateKey) -> None:
    kept = Signatures(trusted, required=True)
    assert kept.checked(DIGEST, by(reader1)) == by(reader1)
    assert kept.signer(DIGEST, by(reader1)) == "Lab A"
    kept.require("cells@1", DIGEST, by(reader1))


def test_every_other_signature_is_refused_with_its_own_code(
    trusted: Path, reader1: Ed25519PrivateKey, stranger: Ed25519PrivateKey
) -> None:
    kept = Signatures(trusted, required=True)
    forged = by(stranger).replace(by(stranger)[:22], by(reader1)[:22])
    for text, code in [
        (None, "signature_required"),
        (by(stranger), "signature_key_unknown"),
        (forged, "signature_invalid"),
        (by(reader1, b"other bytes"), "signature_invalid"),
        (by(reader1, prefix=b""), "signature_invalid"),
        ("", "signature_invalid"),
        ("keyid=0, sig=1", "signature_invalid"),
        (by(reader1) + "\n", "signature_invalid"),
        (by(reader1)[:-4] + "é===", "signature_invalid"),
    ]:
        with pytest.raises(Unsigned, match=r"Fix: sign it with a key that this server trusts") as refused:
            kept.checked(DIGEST, text)
        assert refused.value.code == code, text
        assert not kept.accepts(DIGEST, text)


def test_without_the_requirement_unsigned_files_pass_and_wrong_signatures_do_not(
    trusted: Path, reader1: Ed25519PrivateKey, stranger: Ed25519PrivateKey
) -> None:
    kept = Signatures(trusted)
    assert kept.checked(DIGEST, None) is None
    assert kept.accepts(DIGEST, None)
    for text in (by(stranger), by(reader1, b"other bytes")):
        with pytest.raises(Unsigned):
            kept.checked(DIGEST, text)


def test_a_server_that_knows_no_keys_keeps_a_signature_and_vouches_for_nobody(reader1: Ed25519PrivateKey) -> None:
    kept = Signatures()
    assert kept.checked(DIGEST, by(reader1)) == by(reader1)
    assert kept.signer(DIGEST, by(reader1)) is None
    with pytest.raises(Unsigned):
        kept.checked(DIGEST, "no signature")


def test_a_key_that_is_taken_out_of_the_file_is_trusted_no_longer_and_a_new_one_is(
    trusted: Path, reader1: Ed25519PrivateKey, stranger: Ed25519PrivateKey
) -> None:
    kept = Signatures(trusted, required=True, clock=Clock())
    assert kept.accepts(DIGEST, by(reader1))

    trusted.write_text(line(stranger, "Stranger"))

    assert not kept.accepts(DIGEST, by(reader1))
    with pytest.raises(Unusable, match="Fix: sign it again") as refused:
        kept.require("cells@1", DIGEST, by(reader1))
    assert (refused.value.code, refused.value.retry_after_s) == ("adapter_untrusted", None)
    with pytest.raises(Unsigned) as refused_upload:
        kept.checked(DIGEST, by(reader1))
    assert refused_upload.value.code == "signature_key_unknown"
    assert kept.signer(DIGEST, by(stranger)) == "Stranger"


def test_keys_may_be_a_folder_of_files(tmp_path: Path, reader1: Ed25519PrivateKey, stranger: Ed25519PrivateKey) -> None:
    (tmp_path / "reader1.pub").write_text(line(reader1, "").strip())
    (tmp_path / "notes.txt").write_text("not a key")
    kept = Signatures(tmp_path, required=True, clock=Clock())
    assert kept.signer(DIGEST, by(reader1)) == "reader1"
    assert kept.signer(DIGEST, by(stranger)) is None

    (tmp_path / "stranger.pub").write_text(line(stranger, "Stranger"))
    (tmp_path / "reader1.pub").unlink()

    assert kept.signer(DIGEST, by(reader1)) is None
    assert kept.signer(DIGEST, by(stranger)) == "Stranger"


def test_a_folder_without_keys_trusts_nobody(tmp_path: Path, reader1: Ed25519PrivateKey) -> None:
    kept = Signatures(tmp_path)
    assert kept.signer(DIGEST, by(reader1)) is None
    with pytest.raises(Unsigned):
        kept.checked(DIGEST, by(reader1))


def own_key(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    (path := tmp_path / "own.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_the_server_signs_what_it_makes_itself_and_trusts_its_own_key(
    tmp_path: Path, trusted: Path, stranger: Ed25519PrivateKey
) -> None:
    kept = Signatures(trusted, own_key(tmp_path, stranger), required=True)
    made = kept.own(DIGEST)
    assert made == by(stranger)
    assert kept.checked(DIGEST, made) == made
    assert kept.signer(DIGEST, made) == "this server"
    with pytest.raises(Unsigned):
        kept.checked(OTHER, made)


def test_without_a_key_of_its_own_it_makes_nothing_that_needs_a_signature(trusted: Path) -> None:
    with pytest.raises(Unsigned, match="LENSMOUNT_SIGNING_KEY"):
        Signatures(trusted, required=True).own(DIGEST)
    assert Signatures(trusted).own(DIGEST) is None


def test_what_cannot_be_read_stops_the_start(tmp_path: Path, trusted: Path) -> None:
    (bad := tmp_path / "bad").write_text("ssh-ed25519 AAAA\n")
    for paths, told in [
        ((bad, None), r"bad, line 1: found no public key.*Fix: copy the line"),
        ((tmp_path / "none", None), "cannot read the trusted keys"),
        ((trusted, bad), r"found no private key.*Fix: make one with lensmount keys create NAME"),
        ((trusted, tmp_path / "none"), "found no private key"),
    ]:
        with pytest.raises(Unavailable, match=told):
            Signatures(*paths)


def test_a_file_of_keys_that_is_gone_while_serving_trusts_nobody_until_it_is_back(
    trusted: Path, reader1: Ed25519PrivateKey
) -> None:
    kept = Signatures(trusted, required=True, clock=Clock())
    text = trusted.read_text()
    trusted.unlink()
    assert not kept.accepts(DIGEST, by(reader1))
    trusted.write_text(text)
    assert kept.accepts(DIGEST, by(reader1))


def test_nothing_heavy_is_imported_until_a_key_is_used() -> None:
    script = (
        "import sys; from lensmount_service.store.signatures import Signatures; s = Signatures(); "
        "s.checked('sha256:00', None); print('cryptography' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.stdout.strip() == "False", ended.stderr


def test_the_server_takes_a_signature_of_the_client_and_both_have_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "trusted").write_text(signing.create_key(tmp_path / "reader1.key", "Reader1"))
    server = Signatures(tmp_path / "trusted", required=True)

    signed = server.checked(DIGEST, signing.sign_file(DATA, tmp_path / "reader1.key"))

    assert server.signer(DIGEST, signed) == "Reader1"
    assert (signing.PREFIX, signing.HEADER) == (signatures.PREFIX, signatures.HEADER)
