"""Jobs over HTTP: an app with a dataset to train on, and what a client and a worker do first. A real Chromium."""

from __future__ import annotations

import io
import re
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lensmount_service.build import Parts
from lensmount_service.jobs.records import Lease

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from tests.service.conftest import MakeParts, MakePng

# The types of the fixtures that are functions

Claim = Callable[[Parts], Lease]
Submit = Callable[..., Any]
Listening = Callable[[FastAPI], AbstractContextManager[str]]


@pytest.fixture
def archive(make_png: MakePng) -> bytes:
    """The bytes of a zip file of class folders."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    return buffer.getvalue()


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts() as parts:
        yield parts


@pytest.fixture
def api(parts: Parts, archive: bytes) -> Iterator[TestClient]:
    """The app with the dataset `cells`."""
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        assert (
            client.put("/datasets/cells", content=archive, headers={"Content-Type": "application/zip"}).status_code
            == 201
        )
        yield client


@pytest.fixture
def lease(parts: Parts, api: TestClient, submit: Submit, claim: Claim) -> Lease:
    """The lease of a claimed job for the adapter `malaria`."""
    submit(api)
    return claim(parts)


@pytest.fixture
def claim() -> Claim:
    """`claim(parts)` is the lease of the next job, as a worker gets it."""

    def claimed(parts: Parts) -> Lease:
        lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
        assert lease is not None
        return lease

    return claimed


@pytest.fixture
def submit() -> Submit:
    """`submit(api, epochs=3)` is the new job, for the adapter `malaria` unless a field says otherwise."""

    def submitted(api: TestClient, **fields: Any) -> Any:
        answer = api.post("/jobs", json={"dataset": "cells", "adapter": "malaria", **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return submitted


# The page in a real browser


@contextmanager
def listening_at(app: FastAPI) -> Iterator[str]:
    """Serves the app with uvicorn on a free port, in a thread. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, http="httptools", ws="none", log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield "http://{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def listening() -> Listening:
    return listening_at


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    browsers = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not browsers:
        pytest.skip("needs Chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason='needs playwright: pip install "lensmount[dev]"')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browsers[0])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab. Every error that the browser reports fails the test, except for expected responses of 401, 415 and 422."""
    complaints: list[str] = []
    context = chromium.new_context()
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield tab
    context.close()
    assert [text for text in complaints if not re.search(r"status of 4(01|15|22)", text)] == []
