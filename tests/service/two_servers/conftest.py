"""Two servers with one database and one object store, and no folder in common."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from tests.service.conftest import RULE
from tests.service.object_store import CREDENTIALS

from lensmount_adapters import load_backbone
from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts, MakePng

ADMIN = {"Authorization": "Bearer first-admin-token"}


@dataclass(frozen=True)
class Server:
    """One of the servers, and an administrator's client of it."""

    parts: Parts
    client: TestClient


@dataclass(frozen=True)
class Pair:
    """`pair.here` and `pair.there`; `pair.name()` gives a name that no other test uses."""

    here: Server
    there: Server

    def name(self) -> str:
        return f"cells-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of a database and an object store: SQLite and a folder, or PostgreSQL and S3."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("stores")
        yield f"sqlite:///{folder}/registry.sqlite3", f"file://{folder}/bucket"
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": request.getfixturevalue("moto")}.items():
            patch.setenv(name, value)
        yield request.getfixturevalue("postgresql")(), request.getfixturevalue("make_bucket")()


@pytest.fixture(scope="module")
def open_server(stores: tuple[str, str], make_shared_parts: MakeParts) -> Callable[[ExitStack], Server]:
    def start(stack: ExitStack) -> Server:
        backbone = load_backbone("test_resnet", "random:0")
        backbone.preprocessing = RULE
        database, blobs = (SecretStr(url) for url in stores)
        token = SecretStr(ADMIN["Authorization"].removeprefix("Bearer "))
        settings = {"database": database, "blobs": blobs, "token": token}
        parts = stack.enter_context(make_shared_parts(backbone, **settings))
        client = TestClient(parts.app, base_url="http://127.0.0.1", headers=ADMIN)
        return Server(parts, stack.enter_context(client))

    return start


@pytest.fixture(scope="module")
def pair(open_server: Callable[[ExitStack], Server]) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(open_server(stack), open_server(stack))


@pytest.fixture(scope="module")
def archive(make_png: MakePng) -> bytes:
    """The bytes of a zip file of class folders."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    return buffer.getvalue()
