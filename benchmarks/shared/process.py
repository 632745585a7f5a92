"""Runs a server in its own process: starts it, waits for it, measures its memory and stops it with its children."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02
GIVE_UP_S = 300.0
STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes. `rss` counts a shared page once per process, `pss` counts it once altogether."""

    rss: int
    pss: int

    @classmethod
    def of(cls, root: int) -> Memory:
        """The memory of a process and all its descendants."""
        pages = [_rollup(pid) for pid in tree(root)]
        return cls(sum(rss for rss, _ in pages), sum(pss for _, pss in pages))


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    url: str
    ready_s: float  # from just before the start to the first answer with status 200

    def memory(self) -> Memory:
        return Memory.of(self.pid)


@contextmanager
def running(
    command: Sequence[str], port: int, ready: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """Yields once GET `ready` answers 200. Afterwards the process group is always ended, even after an error."""
    begin = time.perf_counter()
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
            start_new_session=True,  # puts its children into one group, which can be ended together
        )
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.perf_counter() - begin > GIVE_UP_S:
                raise SystemExit(f"{' '.join(command)} did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(POLL_S)
        yield Server(process.pid, f"http://127.0.0.1:{port}", time.perf_counter() - begin)
    finally:
        _stop(process)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def tree(root: int) -> list[int]:
    """The ids of the process and its descendants, read from /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:  # the process has ended in the meantime
            continue
        parent = int(stat.rpartition(")")[2].split()[1])  # the name before it may contain any character
        children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def processor_s(root: int) -> float:
    """Seconds of processor time, of users and of the system, that a process and its descendants took so far."""
    ticks = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):  # the process has ended in the meantime
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _rollup(pid: int) -> tuple[int, int]:
    """(rss, pss) in bytes; (0, 0) if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    kilobytes = {name: int(value) for name, value in re.findall(r"^(Rss|Pss): +(\d+) kB", text, re.MULTILINE)}
    return kilobytes.get("Rss", 0) * 1024, kilobytes.get("Pss", 0) * 1024


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        end = time.monotonic() + patience_s
        while time.monotonic() < end and _group_lives(process):
            time.sleep(POLL_S)
    process.wait(STOP_S)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # reaps the process, because a zombie would count as alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
