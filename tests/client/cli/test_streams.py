"""Output that nobody reads, that cannot be written, or that has no letters for a label: one line, and no traceback."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest

from lensmount_client._cli.main import main

CLI = [sys.executable, "-c", "from lensmount_client._cli.main import main; main()"]
COMMANDS = {
    "a table": ("adapters", "list"),
    "JSON": ("adapters", "list", "--json"),
    "lines": ("whoami",),
    "the help": ("--help",),
    "the version": ("--version",),
    "records": ("audit", "export"),
}


@pytest.fixture
def status(server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`status(stream, "adapters", "list")` is the exit status of the command with this as its stdout, and stderr."""
    monkeypatch.setenv("LENSMOUNT_URL", server.url)

    def run(stdout: TextIO | None, *command: str) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as ended:
            main(command)
        return ended.value.code or 0, capsys.readouterr().err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_stdout_takes_nothing_and_fails_nothing(status: Any, command: str) -> None:
    code, err = status(None, *COMMANDS[command])
    assert code == 0
    assert not err or (command == "records" and err.startswith("To resume from here: "))
    assert sys.stdout.name == os.devnull
    sys.stdout.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_status_1(status: Any, command: str) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        code, err = status(full, *COMMANDS[command])

    assert (code, err.count("\n")) == (1, 1)
    assert "the output: No space left on device" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_had_enough_ends_the_command_without_a_word(status: Any, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8") as broken:  # when it closes
        assert status(broken, *COMMANDS[command]) == (1, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_label_without_letters_in_the_terminals_encoding_is_escaped(
    status: Any, encoding: str, form: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "cell.png").write_text("\u4f60\u597d", encoding="utf-8")  # the tiny server answers with it
    with io.TextIOWrapper(raw := io.BytesIO(), encoding=encoding) as terminal:
        code, err = status(terminal, "predict", str(tmp_path), "-a", "malaria", *form)
        shown = raw.getvalue().decode(encoding)

    assert (code, err) == (0, "")
    assert "\\u4f60\\u597d" in shown


def test_no_color_and_no_terminal_print_no_escapes(server: Any) -> None:
    environment = {**os.environ, "LENSMOUNT_URL": server.url, "NO_COLOR": "1", "TERM": "dumb"}
    for command in (["adapters", "list"], ["adapters", "delete", "none"]):
        done = subprocess.run([*CLI, *command], capture_output=True, env=environment, check=False)
        assert b"\x1b" not in done.stdout + done.stderr


def test_a_process_without_any_open_stream_works_and_sends_nothing_of_its_output_to_the_server(server: Any) -> None:
    """What is opened next takes the number of a closed stream: a socket must not be mistaken for stdout."""
    line = " ".join(f"'{word}'" for word in [*CLI, "adapters", "delete", "malaria"])
    environment = {**os.environ, "LENSMOUNT_URL": server.url}

    done = subprocess.run(["/bin/sh", "-c", f"{line} <&- >&- 2>&-"], env=environment, check=False)

    assert done.returncode == 0
    assert "malaria" not in server.files
