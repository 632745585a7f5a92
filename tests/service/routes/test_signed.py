"""A server that requires signatures: every way into its store, and what happens to what is there already."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi.testclient import TestClient
from tests.service.peft_file import foreign

from lensmount_adapters import Backbone, dump_adapter, load_backbone, parse_adapter
from lensmount_service.build import Parts, open_parts
from lensmount_service.settings import Settings
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
def reader1() -> Signer:
    return Signer("Reader1")


@pytest.fixture(scope="module")
def stranger() -> Signer:
    return Signer("Stranger")


@pytest.fixture
def trusted(tmp_path: Path, reader1: Signer) -> Path:
    (path := tmp_path / "trusted.pub").write_text(reader1.line)
    return path


@pytest.fixture
def strict(make_parts: MakeParts, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, Parts]]:
    monkeypatch.setattr(signatures, "LOOK_S", 0.0)  # the files of keys are looked at for each use
    with make_parts(trusted_keys=trusted, require_signatures=True) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            yield client, parts


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


UNSIGNED = {  # ADP-46: a signature is required
    "ADP-46 none": "signature_required",
    "ADP-46 another key": "signature_key_unknown",
    "ADP-46 of another file": "signature_invalid",
    "ADP-46 no signature": "signature_invalid",
}


@pytest.mark.parametrize("row", UNSIGNED)
def test_an_adapter_that_no_trusted_key_has_signed_is_stored_nowhere(
    strict: tuple[TestClient, Parts], make_adapter: MakeAdapter, reader1: Signer, stranger: Signer, row: str
) -> None:
    client, parts = strict
    data, other = make_adapter(1), make_adapter(2)
    headers: dict[str, str] = {
        "ADP-46 none": {},
        "ADP-46 another key": stranger.headers(data),
        "ADP-46 of another file": reader1.headers(other),
        "ADP-46 no signature": {"Lensmount-Signature": "keyid=x"},
    }[row]
    form = {"file": ("cells.safetensors", data, "application/octet-stream")}
    for answer in (
        client.put("/adapters/cells", content=data, headers=headers),
        client.post("/adapters", files=form, headers=headers),
        client.put("/adapters/cells?accept_rounded_backbone=true", content=data, headers=headers),
    ):
        assert code(answer) == (403, UNSIGNED[row])
    assert client.get("/adapters").json() == {"adapters": []}
    assert list((parts.app.state.context.settings.state / "blobs").iterdir()) == []


def test_the_signer_is_shown(
    strict: tuple[TestClient, Parts], make_adapter: MakeAdapter, make_png: MakePng, reader1: Signer
) -> None:
    client, _ = strict
    data = make_adapter(1)
    assert client.put("/adapters/cells", content=data, headers=reader1.headers(data)).status_code == 201

    assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200
    (shown,) = client.get("/adapters").json()["adapters"]
    assert (shown["signed_by"], shown["status"]) == ("Reader1", "ready")
    assert client.get("/adapters/cells/versions/1").json()["signed_by"] == "Reader1"
    sent = client.get("/adapters/cells/file").headers
    assert sent["Lensmount-Signature"] == reader1.headers(data)["Lensmount-Signature"]


def test_a_key_that_is_taken_away_takes_its_adapters_along_until_they_are_signed_again(
    strict: tuple[TestClient, Parts],
    make_adapter: MakeAdapter,
    make_png: MakePng,
    trusted: Path,
    reader1: Signer,
    stranger: Signer,
) -> None:
    client, _ = strict
    data = make_adapter(1)
    client.put("/adapters/cells", content=data, headers=reader1.headers(data))
    client.put("/adapters/cells/aliases/prod", json={"version": 1})
    assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200

    trusted.write_text(stranger.line)

    for adapter in ("cells", "cells@1", "cells:prod"):
        refused = client.post(f"/predict?adapter={adapter}", content=make_png())
        assert code(refused) == (503, "adapter_untrusted")
        assert "Retry-After" not in refused.headers
    assert code(client.post("/explain?adapter=cells", content=make_png())) == (503, "adapter_untrusted")
    assert code(client.get("/adapters/cells/export?to=peft")) == (503, "adapter_untrusted")
    (shown,) = client.get("/adapters").json()["adapters"]
    assert (shown["signed_by"], shown["status"]) == (None, "untrusted")
    again = client.put("/adapters/cells", content=data, headers=stranger.headers(data))  # the advice
    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert client.post("/predict?adapter=cells:prod", content=make_png()).status_code == 200
    assert client.get("/adapters/cells").json()["signed_by"] == "Stranger"


def test_a_row_that_somebody_changed_in_the_database_is_not_served(
    strict: tuple[TestClient, Parts], make_adapter: MakeAdapter, make_png: MakePng, reader1: Signer
) -> None:
    client, parts = strict
    one, other = make_adapter(1), make_adapter(2)
    for name, data in (("one", one), ("other", other)):
        client.put(f"/adapters/{name}", content=data, headers=reader1.headers(data))
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


@pytest.mark.parametrize("with_key", [False, True])
def test_an_import_is_stored_only_if_the_server_can_sign_what_it_makes_of_it(
    make_parts: MakeParts,
    make_png: MakePng,
    zipped: Zip,
    backbone: Backbone,
    trusted: Path,
    tmp_path: Path,
    with_key: bool,
) -> None:
    own = Signer("own").write(tmp_path / "own.key") if with_key else None
    path = "/adapters/leaves/import?labels=oak,elm"
    with make_parts(trusted_keys=trusted, require_signatures=True, signing_key=own) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            dry = client.post(f"{path}&dry_run=true", content=foreign(backbone, zipped))
            assert (dry.status_code, dry.json()["adapter"]) == (200, None), dry.text
            answer = client.post(path, content=foreign(backbone, zipped))
            if with_key:
                assert answer.status_code == 201, answer.text
                assert client.get("/adapters/leaves").json()["signed_by"] == "this server"
                assert client.post("/predict?adapter=leaves", content=make_png()).status_code == 200
            else:
                assert code(answer) == (403, "signature_required")
                assert "LENSMOUNT_SIGNING_KEY" in answer.json()["detail"]
                assert client.get("/adapters").json() == {"adapters": []}
                assert list((tmp_path / "blobs").iterdir()) == []


@pytest.mark.parametrize("with_key", [False, True])
def test_a_file_for_rounded_weights_needs_the_signature_of_its_maker_and_gets_that_of_the_server(
    make_parts: MakeParts, make_adapter: MakeAdapter, trusted: Path, tmp_path: Path, reader1: Signer, with_key: bool
) -> None:
    rounded, data = for_rounded_weights(make_adapter(5))
    own = Signer("own").write(tmp_path / "own.key") if with_key else None
    path = "/adapters/new?accept_rounded_backbone=true"
    with make_parts(rounded, trusted_keys=trusted, require_signatures=True, signing_key=own) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            assert code(client.put(path, content=data)) == (403, "signature_required")
            answer = client.put(path, content=data, headers=reader1.headers(data))
            if with_key:
                assert answer.status_code == 201, answer.text
                assert client.get("/adapters/new").json()["signed_by"] == "this server"
            else:
                assert code(answer) == (403, "signature_required")
                assert "LENSMOUNT_SIGNING_KEY" in answer.json()["detail"]
                assert client.get("/adapters").json() == {"adapters": []}


@pytest.mark.parametrize("with_key", [False, True])
def test_the_zoo_is_mounted_at_start_only_if_the_server_signs_it(
    make_adapter: MakeAdapter,
    make_png: MakePng,
    backbone: Backbone,
    trusted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_key: bool,
) -> None:
    (zoo := tmp_path / "zoo").mkdir()
    (zoo / "leaves.safetensors").write_bytes(make_adapter(3))
    monkeypatch.setattr("lensmount_service.build.zoo_folder", lambda: zoo)
    own = Signer("own").write(tmp_path / "own.key") if with_key else None
    options: dict[str, Any] = {"trusted_keys": trusted, "require_signatures": True, "signing_key": own}
    settings = Settings(state=tmp_path / "state", threads=1, executor="eager", **options)
    for _ in range(2):  # a restart too
        with open_parts(settings, backbone) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
            shown = {each["name"]: each["signed_by"] for each in client.get("/adapters").json()["adapters"]}
            assert shown == ({"leaves": "this server"} if with_key else {})
            answer = client.post("/predict?adapter=public/leaves", content=make_png())
            assert answer.status_code == (200 if with_key else 404), answer.text


def for_rounded_weights(data: bytes) -> tuple[Backbone, bytes]:
    """A backbone whose weights were rounded to half precision, and the adapter file as made for the whole ones."""
    whole = load_backbone("test_resnet", "random:0")
    half = load_backbone("test_resnet", "random:1").module
    half.load_state_dict({name: tensor.half().float() for name, tensor in whole.tensors.items()}, strict=False)
    file = parse_adapter(data)
    training = {"backbone_rounded": dict(whole.rounded_fingerprints)}
    made = dump_adapter(file.manifest.model_copy(update={"training": training}), file.tensors)
    return Backbone("test_resnet", half, whole.preprocessing, torch.float32), made
