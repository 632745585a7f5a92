"""The web page in a real Chromium, and a server that it can reach."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
from fastapi import FastAPI

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Listening = Callable[[FastAPI], AbstractContextManager[str]]


@contextmanager
def listening_at(app: FastAPI) -> Iterator[str]:
    """Serves the app with uvicorn on a free port, in a thread. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http="httptools", ws="none", log_config=None)
        config.timeout_graceful_shutdown = 10  # seconds: a failed test leaves streams of events open
        server = uvicorn.Server(config)
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
    """A tab. Every error that the browser reports fails the test, except for expected 401, 412, 415 and 422."""
    complaints: list[str] = []
    context = chromium.new_context()
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield tab
    context.close()
    unexpected = [text for text in complaints if not re.search(r"status of 4(01|12|15|22)", text)]
    assert not unexpected, unexpected  # pytest shows no values of this module
