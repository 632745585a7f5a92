"""State folders with something of everything, as a server leaves them, and what a server shows of one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone
from lensmount_service.build import open_parts
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakePng, Zip

PATHS = (
    *("/adapters", "/adapters?deleted=true", "/datasets", "/datasets/cells/labels", "/jobs", "/tokens"),
    *("/audit", "/adapters/cells/file?version=1"),
)


@dataclass(frozen=True)
class Kept:
    """A state folder, the token of its administrator, and the token of another tenant's."""

    folder: Path
    token: str
    other: str


def settings_of(folder: Path) -> Settings:
    return Settings(state=folder, zoo=False, threads=1, executor="merged")


def shown(kept: Kept, backbone: Backbone) -> dict[str, Any]:
    """What a server shows of everything in the folder to both tenants."""
    answers: dict[str, Any] = {}
    with (
        open_parts(settings_of(kept.folder), backbone) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        for token in (kept.token, kept.other):
            for path in PATHS:
                answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
                is_json = "json" in answer.headers["Content-Type"]
                answers[f"{token[-4:]} {path}"] = answer.status_code, answer.json() if is_json else answer.content
    for status, body in answers.values():
        for adapter in body.get("adapters", []) if isinstance(body, dict) else []:
            adapter.pop("tier", None)
        assert status < 500, body
    return {path: (status, without_ids(body)) for path, (status, body) in answers.items()}


def without_ids(body: Any) -> Any:
    """Problems name their request."""
    return {key: value for key, value in body.items() if key != "request_id"} if isinstance(body, dict) else body


@pytest.fixture(scope="session")
def template(
    backbone: Backbone,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    zipped: Zip,
    images: DrawImages,
    tmp_path_factory: pytest.TempPathFactory,
) -> Kept:
    """Two versions with an alias, a deleted adapter, a dataset, a pool with a label, a job with a file, two tokens."""
    folder = tmp_path_factory.mktemp("template") / "state"
    with (
        open_parts(settings_of(folder), backbone) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):

        def send(method: str, path: str, **more: Any) -> Any:
            answer = client.request(method, path, **more)
            assert answer.status_code < 300, answer.text
            return answer.json() if answer.content else None

        for name, seed in (("cells", 1), ("cells", 3), ("tiles", 2)):
            send("PUT", f"/adapters/{name}", content=make_adapter(seed))
        send("PUT", "/adapters/cells/aliases/prod", json={"version": 2})
        send("DELETE", "/adapters/tiles")
        archive = zipped(images(a=6, b=6))
        send("PUT", "/datasets/cells", content=archive, headers={"Content-Type": "application/zip"})
        send("POST", "/datasets/cells/unlabelled?who=reader1", content=make_png(99))
        (image,) = parts.training.pools.images("cells")
        send("POST", "/datasets/cells/labels", json={"who": "reader1", "labels": {image.digest: "a"}})
        job = send("POST", "/jobs", json={"dataset": "cells", "adapter": "trained", "epochs": 1})["id"]
        lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
        assert lease is not None
        client.put(f"/jobs/{job}/files/card.md", content=b"card", headers={"Lensmount-Lease": lease.token})
        parts.training.jobs.give_back(lease)
        token = send("POST", "/tokens", json={"name": "admin", "scopes": ["admin"]})["secret"]
        held = {"Authorization": f"Bearer {token}"}
        other = {"name": "reader2", "scopes": ["admin"], "tenant": "lab"}
        secret = send("POST", "/tokens", json=other, headers=held)["secret"]
        theirs = {"Authorization": f"Bearer {secret}"}
        send("PUT", "/adapters/cells", content=make_adapter(4), headers=theirs)
    return Kept(folder, token, secret)


@pytest.fixture
def kept(template: Kept, tmp_path: Path) -> Kept:
    """A copy of the template that the test may damage."""
    shutil.copytree(template.folder, tmp_path / "state")
    return Kept(tmp_path / "state", template.token, template.other)
