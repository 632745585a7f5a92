"""A server as a process of its own: started, awaited, weighed and stopped with all that it started."""

from __future__ import annotations

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
    """Bytes. `rss` counts pages that processes share in each of them, `pss` once in all."""

    rss: int
    pss: int

    @classmethod
    def of(cls, root: int) -> Memory:
        """Of the process and all that descend from it."""
        pages = [_rollup(pid) for pid in tree(root)]
        return cls(sum(rss for rss, _ in pages), sum(pss for _, pss in pages))


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    url: str
    ready_s: float  # from before it was started to its first good answer

    def memory(self) -> Memory:
        return Memory.of(self.pid)


@contextmanager
def running(
    command: Sequence[str], port: int, ready: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """Yields when GET `ready` answers 200. The process group is ended on the way out, whatever happened."""
    begin = time.perf_counter()
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
            start_new_session=True,  # so that its children can be ended with it
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
    """The process and its descendants, from /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        parent = int(stat.rpartition(")")[2].split()[1])  # the name before it may hold anything
        children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _rollup(pid: int) -> tuple[int, int]:
    """(rss, pss) in bytes; nothing for a process that has ended."""
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
    process.poll()  # a zombie would count
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
