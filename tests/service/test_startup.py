"""What `lensmount serve` says before it serves: its steps, a taken port, Ctrl-C."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import pytest
from pydantic import SecretStr

from lensmount_service.settings import Settings
from lensmount_service.startup import cannot_serve, own_url, teller

SERVE = [sys.executable, "-m", "lensmount_client", "serve"]
SMALL = ["--backbone", "test_resnet", "--weights", "random:0", "--no-zoo", "--port", "0", "--executor", "eager"]


def stderr_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stderr is not None
    return process.stderr


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("lab.example", "http://lab.example:8000"),
    ],
)
def test_this_machine_reaches_the_server_at_a_url_that_it_can_open(host: str, url: str) -> None:
    assert own_url(host, 8000) == url


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.EADDRINUSE, "choose another port with --port, or stop the program that listens there"),
        (errno.EACCES, "choose a port above 1023 with --port"),
        (errno.EADDRNOTAVAIL, "choose another address with --host"),
    ],
)
def test_a_port_that_cannot_be_used_is_one_line_with_the_fix(number: int, fix: str) -> None:
    settings = Settings(host="10.0.0.1", port=80, token=SecretStr("secret"))
    line = cannot_serve(settings, OSError(number, "why"))
    assert line == f"cannot serve at 10.0.0.1:80: why. Fix: {fix}"


def test_the_steps_are_told_to_people_and_neither_to_machines_nor_to_who_wants_only_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teller(Settings(log_format="json"))("Loading ...")
    teller(Settings(log_level="warning"))("Loading ...")
    assert capsys.readouterr().err == ""
    teller(Settings())("Loading ...")
    assert capsys.readouterr().err == "Loading ...\n"


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*SERVE, *SMALL, "--state", str(tmp_path), "--port", port], capture_output=True, text=True, timeout=300
        )
    assert ended.returncode == 78
    (line,) = ended.stderr.strip().splitlines()
    assert f"127.0.0.1:{port}: Address already in use. Fix: choose another port with --port" in line


def test_a_taken_port_is_reported_before_torch_is_imported() -> None:
    script = (
        "import atexit, sys; from lensmount_client._cli.main import main; "
        "atexit.register(lambda: print('torch' in sys.modules)); "
        "main(['serve', '--port', sys.argv[1]])"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run([sys.executable, "-c", script, port], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout.strip()) == (78, "False")


@contextmanager
def starting(state: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A server process whose output is read line by line."""
    process = subprocess.Popen(
        [*SERVE, *SMALL, "--state", str(state), *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        stderr_of(process).close()


UNUSED = {
    *(
        "sklearn",
        "matplotlib",
        "skimage",
        "jinja2",
        "transformers",
        "monai",
        "peft",
        "onnx",
        "onnxscript",
        "onnxruntime",
    ),
    *("openvino", "psycopg", "obstore", "jwt", "nibabel", "tifffile", "pydicom", "sympy", "torch._dynamo"),
}
"""What other commands, other executors and other kinds of input need, each a part of a second to many seconds."""

TELLS = (
    "import atexit, json, sys; from lensmount_client._cli.main import main; "
    f"atexit.register(lambda: print(json.dumps(sorted({UNUSED} & sys.modules.keys())))); main()"
)


@dataclass(frozen=True)
class Run:
    """What a server said before it served and after Ctrl-C, whether it was ready, its status, what it imported."""

    lines: list[str]
    ready: int
    rest: list[str]
    status: int
    unused: list[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    command = [sys.executable, "-c", TELLS, "serve", *SMALL, "--state", str(tmp_path_factory.mktemp("state"))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in stderr_of(process):
            lines.append(line)
            if line.startswith("Ready"):
                break
        ready = re.search(r"Ready at (\S+):", lines[-1])
        assert ready is not None, lines
        status = httpx.get(f"{ready[1]}/health/ready").status_code
        process.send_signal(signal.SIGINT)
        rest = stderr_of(process).read().splitlines()
        assert process.stdout is not None
        unused = json.loads(process.stdout.read())
        return Run(lines, status, rest, process.wait(300), unused)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_a_start_is_reported_step_by_step_and_ctrl_c_is_one_line(run: Run) -> None:
    plain = [line for line in run.lines if not line.startswith("20")]  # log lines begin with a time
    assert [line.split()[0] for line in plain] == ["Lensmount", "Loading", "Preparing", "Ready"]
    assert f"starts at {plain[-1].split()[2].removesuffix(':')}. " in plain[0]
    assert run.ready == 200

    assert run.status == 0
    assert [line for line in run.rest if not line.startswith("20")] == [
        "Stopping after accepted requests are finished. Press Ctrl-C again to stop at once."
    ]


def test_a_server_imports_nothing_that_only_other_commands_and_extras_need(run: Run) -> None:
    assert run.unused == []


def test_ctrl_c_while_loading_is_one_line(tmp_path: Path) -> None:
    with starting(tmp_path) as process:
        first = stderr_of(process).readline()
        assert first.startswith("Lensmount starts at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert stderr_of(process).read().strip() == "Stopped."
        assert process.wait(300) == 130
