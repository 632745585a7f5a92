"""A server that requires signatures: every way into its store, and what happens to what is there already."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi.testclient import TestClient

from lensmount_service.build import Parts
from lensmount_service.store import signatures
from lensmount_service.store.adapter_rows import version_table

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Zip

PREFIX = b"lensmount-adapter-v1\0"


class Signer:
    def __init__(self, name: str) -> None:
        self.key = Ed25519PrivateKey.generate()
        raw = self.key.public_key().public_bytes_raw()
        self.id = hashlib.sha256(raw).hexdigest()[:16]
        self.line = f"ed25519 {base64.b64encode(raw).decode()} {name}\n"

    def headers(self, data: bytes) -> dict[str, str]:
        signature = base64.b64encode(self.key.sign(PREFIX + hashlib.sha256(data).digest())).decode()
        return {"Lensmount-Signature": f"keyid={self.id}, sig={signature}"}

    def write(self, path: Path) -> Path:
        path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path


@pytest.fixture(scope="module")
def ann() -> Signer:
    return Signer("Ann")


@pytest.fixture(scope="module")
def eve() -> Signer:
    return Signer("Eve")


@pytest.fixture
def trusted(tmp_path: Path, ann: Signer) -> Path:
    (path := tmp_path / "trusted.pub").write_text(ann.line)
    return path


@pytest.fixture
def strict(make_parts: MakeParts, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, Parts]]:
    monkeypatch.setattr(signatures, "LOOK_S", 0.0)  # the files of keys are looked at for each use
    with make_parts(trusted_keys=trusted, require_signatures=True) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            yield client, parts


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_only_signed_adapters_are_stored_and_the_signer_is_shown(
    strict: tuple[TestClient, Parts], make_adapter: MakeAdapter, make_png: MakePng, ann: Signer, eve: Signer
) -> None:
    client, _ = strict
    data, other = make_adapter(1), make_adapter(2)
    form = {"file": ("cells.safetensors", data, "application/octet-stream")}
    for headers, expected in [
        ({}, "signature_required"),
        (eve.headers(data), "signature_key_unknown"),
        (ann.headers(other), "signature_invalid"),
        ({"Lensmount-Signature": "keyid=x"}, "signature_invalid"),
    ]:
        assert code(client.put("/adapters/cells", content=data, headers=headers)) == (403, expected)
        assert code(client.post("/adapters", files=form, headers=headers)) == (403, expected)
    assert client.get("/adapters").json() == {"adapters": []}

    assert client.put("/adapters/cells", content=data, headers=ann.headers(data)).status_code == 201

    assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200
    (shown,) = client.get("/adapters").json()["adapters"]
    assert (shown["signed_by"], shown["status"]) == ("Ann", "ready")
    assert client.get("/adapters/cells/versions/1").json()["signed_by"] == "Ann"
    sent = client.get("/adapters/cells/file").headers
    assert sent["Lensmount-Signature"] == ann.headers(data)["Lensmount-Signature"]


def test_a_key_that_is_taken_away_takes_its_adapters_along_until_they_are_signed_again(
    strict: tuple[TestClient, Parts],
    make_adapter: MakeAdapter,
    make_png: MakePng,
    trusted: Path,
    ann: Signer,
    eve: Signer,
) -> None:
    client, _ = strict
    data = make_adapter(1)
    client.put("/adapters/cells", content=data, headers=ann.headers(data))
    client.put("/adapters/cells/aliases/prod", json={"version": 1})
    assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200

    trusted.write_text(eve.line)

    for adapter in ("cells", "cells@1", "cells:prod"):
        refused = client.post(f"/predict?adapter={adapter}", content=make_png())
        assert code(refused) == (503, "adapter_untrusted")
        assert "Retry-After" not in refused.headers
    assert code(client.post("/explain?adapter=cells", content=make_png())) == (503, "adapter_untrusted")
    assert code(client.get("/adapters/cells/export?to=peft")) == (503, "adapter_untrusted")
    (shown,) = client.get("/adapters").json()["adapters"]
    assert (shown["signed_by"], shown["status"]) == (None, "untrusted")
    again = client.put("/adapters/cells", content=data, headers=eve.headers(data))  # the advice
    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert client.post("/predict?adapter=cells:prod", content=make_png()).status_code == 200
    assert client.get("/adapters/cells").json()["signed_by"] == "Eve"


def test_a_row_that_somebody_changed_in_the_database_is_not_served(
    strict: tuple[TestClient, Parts], make_adapter: MakeAdapter, make_png: MakePng, ann: Signer
) -> None:
    client, parts = strict
    one, other = make_adapter(1), make_adapter(2)
    for name, data in (("one", one), ("other", other)):
        client.put(f"/adapters/{name}", content=data, headers=ann.headers(data))
    digest = client.get("/adapters/other").json()["digest"]
    mine = version_table.c.name == "one"
    for values in ({"digest": digest}, {"signature": None}, {"signature": "keyid=0, sig=0"}):
        with parts.training.jobs.database.write() as connection:
            before = connection.execute(sa.select(version_table).where(mine)).one()
            connection.execute(version_table.update().where(mine).values(**values))
        assert code(client.post("/predict?adapter=one", content=make_png())) == (503, "adapter_untrusted")
        with parts.training.jobs.database.write() as connection:
            same = {"digest": before.digest, "signature": before.signature}
            connection.execute(version_table.update().where(mine).values(**same))
    assert client.post("/predict?adapter=one", content=make_png()).status_code == 200


def test_what_was_stored_before_signatures_were_required_is_not_served(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, trusted: Path
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1))
    with make_parts(trusted_keys=trusted, require_signatures=True) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            assert code(client.post("/predict?adapter=cells", content=make_png())) == (503, "adapter_untrusted")
            assert client.get("/adapters/cells").json()["status"] == "untrusted"


def test_a_server_without_a_key_takes_no_job_whose_adapter_it_could_not_sign(
    strict: tuple[TestClient, Parts], images: Any, zipped: Zip
) -> None:
    client, _ = strict
    client.put("/datasets/cells", content=zipped(images(1, a=6, b=6)))

    refused = client.post("/jobs", json={"dataset": "cells", "adapter": "task"})

    assert code(refused) == (403, "signature_required")
    assert "LENSMOUNT_SIGNING_KEY" in refused.json()["detail"]


def test_with_a_key_the_server_signs_what_its_jobs_publish(
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    images: Any,
    zipped: Zip,
    trusted: Path,
    tmp_path: Path,
) -> None:
    own = Signer("own").write(tmp_path / "own.key")
    with make_parts(trusted_keys=trusted, require_signatures=True, signing_key=own) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            client.put("/datasets/cells", content=zipped(images(1, a=6, b=6)))
            job = client.post("/jobs", json={"dataset": "cells", "adapter": "task", "force": True}).json()["id"]
            lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
            assert lease is not None
            headers = {"Lensmount-Lease": lease.token}
            made = client.put(f"/adapters/task?job={job}", content=make_adapter(1), headers=headers)
            assert made.status_code == 201, made.text
            assert client.get("/adapters/task").json()["signed_by"] == "this server"
            assert client.post("/predict?adapter=task", content=make_png()).status_code == 200
            assert code(client.put("/adapters/other", content=make_adapter(2))) == (403, "signature_required")
