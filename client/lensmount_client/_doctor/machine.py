"""The machine: Python, system, processor cores and free memory. Uses the standard library alone."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from lensmount_client._doctor.finding import Finding
from lensmount_client._version import __version__

NEEDED_BYTES = 10**9  # of free memory: a server with the default backbone takes 0.6 to 0.9 GB
GROUP = Path("/sys/fs/cgroup")  # limits of a container (cgroup v2)


def machine() -> list[Finding]:
    """Version, system, cores and free memory."""
    program = f"lensmount {__version__} in {Path(__file__).parents[2]}"
    return [Finding("version", "ok", program), _system(), _cores(), memory(free_bytes())]


def memory(free: int | None) -> Finding:
    """Whether a server has room. `free` is None on systems that do not tell it."""
    if free is None:
        return Finding("memory", "ok", "this system does not tell how much is free")
    found = f"{free / 1e9:.1f} GB free"
    if free >= NEEDED_BYTES:
        return Finding("memory", "ok", found)
    fix = "end other programs, or give the container more memory: a server needs about 1 GB"
    return Finding("memory", "note", found, fix)


def free_bytes(meminfo: Path = Path("/proc/meminfo"), group: Path = GROUP) -> int | None:
    """Memory in bytes that a new process can take: what the system has, and what the container's limit leaves."""
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        system = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max": no limit
        return system
    return max(0, min(system, left))


def _system() -> Finding:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform == "win32":
        fix = "run the server in WSL 2 or Docker; client and training run here"
        return Finding("system", "note", f"{found}: the server needs Linux or macOS", fix)
    return Finding("system", "ok", found)


def _cores() -> Finding:
    usable = getattr(os, "sched_getaffinity", None)  # Linux: fewer than all cores if a container says so
    cores = len(usable(0)) if usable is not None else os.cpu_count() or 1
    return Finding("processor", "ok", f"{cores} {'core' if cores == 1 else 'cores'}")
