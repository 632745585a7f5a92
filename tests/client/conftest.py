"""The tiny server, the command line as a function, and an environment without settings of the machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from tests.client.tiny_server import TinyServer, served

from lensmount_client._cli.main import main


@pytest.fixture
def server() -> Iterator[TinyServer]:
    """A TinyServer behind a real socket; `server.url` is its address."""
    with served() as tiny:
        yield tiny


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LENSMOUNT_URL", "LENSMOUNT_TOKEN", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def lensmount(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`code, out, err = lensmount("predict", "a.png", ...)`, without colours."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_info:
            main(list(arguments))
        out, err = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in capsys.readouterr())
        code = exit_info.value.code
        return code if isinstance(code, int) else 0, out, err

    return run
