"""Ctrl-C while a command waits for the server: status 130, no traceback, and nothing half done on this machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
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


@pytest.fixture
def interrupt_at(server: Any) -> Iterator[Callable[[int], list[str]]]:
    """`interrupt_at(2)` presses Ctrl-C when the second request has arrived, which then gets no answer."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    released, asked, answer = threading.Event(), [], server.answer
    main = threading.main_thread().ident
    assert main is not None

    def arm(number: int) -> list[str]:
        def answer_or_interrupt(method: str, target: str, body: bytes, headers: Any) -> Any:
            asked.append(f"{method} {target}")
            if len(asked) == number:
                signal.pthread_kill(main, signal.SIGINT)
                released.wait(20)
            return answer(method, target, body, headers)

        server.answer = answer_or_interrupt
        return asked

    yield arm
    released.set()
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_any_request_is_status_130_and_leaves_nothing_half_done(
    server: Any,
    lensmount: Any,
    interrupt_at: Callable[[int], list[str]],
    places: dict[str, str],
    command: str,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    asked = interrupt_at(at)

    code, out, err = lensmount(*(word.format(**places) for word in COMMANDS[command]))

    if len(asked) < at:  # the command asks less often
        assert code == 0, err
        return
    assert code == 130, (out, err)
    assert "Traceback" not in out + err
    left = [path for path in Path(places["out"]).rglob("*") if path.name != "r.csv"]
    assert left == []
