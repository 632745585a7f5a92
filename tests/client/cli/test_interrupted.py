"""Ctrl-C while a command waits for the server: status 130, no traceback, and nothing half done on this machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

COMMANDS: dict[str, tuple[str, ...]] = {
    "CLI-05 predict": ("predict", "{files}/a.png", "-a", "malaria"),
    "CLI-05 predict a folder": ("predict", "{files}", "-a", "malaria", "--out", "{out}/r.csv"),
    "CLI-05 explain": ("explain", "{files}/a.png", "-a", "malaria", "-o", "{out}/why.png"),
    "CLI-05 adapters list": ("adapters", "list"),
    "CLI-05 adapters push": ("adapters", "push", "{files}/a.png", "--name", "new"),
    "CLI-05 adapters pull": ("adapters", "pull", "malaria", "--out", "{out}"),
    "CLI-05 adapters export": ("adapters", "export", "malaria", "--to", "timm", "--out", "{out}/export"),
    "CLI-05 adapters delete": ("adapters", "delete", "malaria"),
    "CLI-05 datasets push": ("datasets", "push", "{pets}"),
    "CLI-05 datasets list": ("datasets", "list"),
    "CLI-05 jobs submit": ("jobs", "submit", "--data", "{pets}", "--adapter", "pets"),
    "CLI-05 jobs list": ("jobs", "list"),
    "CLI-05 tokens list": ("tokens", "list"),
    "CLI-05 tokens create": ("tokens", "create", "me", "--scopes", "predict"),
    "CLI-05 audit": ("audit", "export"),
    "CLI-05 whoami": ("whoami",),
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Images to send, a folder of two classes, and a folder for what the command writes."""
    for name in ("files/a.png", "files/b.png", "pets/cat/a.png", "pets/dog/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (len(name), ord(name[-5]), 0)).save(tmp_path / name)
    (tmp_path / "out").mkdir()
    return {name: str(tmp_path / name) for name in ("files", "pets", "out")}


class Interrupt:
    """`with interrupt.at(2):` presses Ctrl-C when the second request has arrived, which then gets no answer.

    `asked` has the requests. A request that comes after the block presses nothing: the interrupt would end pytest.
    """

    def __init__(self, server: Any) -> None:
        self.asked: list[str] = []
        self._server = server
        self._main = threading.main_thread().ident
        self._released = threading.Event()

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        answer = self._server.answer

        def answer_or_interrupt(method: str, target: str, body: bytes, headers: Any) -> Any:
            self.asked.append(f"{method} {target}")
            if len(self.asked) == number and not self._released.is_set():
                assert self._main is not None
                signal.pthread_kill(self._main, signal.SIGINT)
                self._released.wait(20)
            return answer(method, target, body, headers)

        def pressed(number: int, frame: Any) -> None:
            if not self._released.is_set():
                raise KeyboardInterrupt

        self._server.answer = answer_or_interrupt
        before = signal.signal(signal.SIGINT, pressed)
        try:
            yield
        finally:
            self._released.set()
            signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupt(server: Any) -> Interrupt:
    return Interrupt(server)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_any_request_is_status_130_and_leaves_nothing_half_done(
    server: Any,
    lensmount: Any,
    interrupt: Interrupt,
    places: dict[str, str],
    command: str,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    with interrupt.at(at):
        code, out, err = lensmount(*(word.format(**places) for word in COMMANDS[command]))

    if len(interrupt.asked) < at:  # the command asks less often
        assert code == 0, err
        return
    assert code == 130, (out, err)
    assert "Traceback" not in out + err
    left = [path for path in Path(places["out"]).rglob("*") if path.name != "r.csv"]
    assert left == []
