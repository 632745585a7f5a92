"""What `lensmount serve` does before it loads anything: it takes the port and reports progress. Imports no torch."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lensmount_service.settings import Settings

BACKLOG = 2048
SWITCH_S = 0.0005  # a prediction changes threads four times; behind a busy thread each change takes 5 ms by default
INTERRUPTED = 130  # the exit status that shells report for a program ended by Ctrl-C

Tell = Callable[[str], None]


def teller(settings: Settings) -> Tell:
    """Writes plain lines for people to stderr, unless the logs are JSON or the level hides such lines."""
    if settings.log_format != "text" or settings.log_level not in ("debug", "info"):
        return say_nothing
    return lambda text: print(text, file=sys.stderr, flush=True)  # noqa: T201  # read before logging is imported


def say_nothing(text: str) -> None:
    return None


@contextmanager
def port_taken(settings: Settings) -> Iterator[socket.socket]:
    """The server's socket, bound but not listening, so that clients are refused at once until the server is ready.

    Raises OSError if the port or the address is not available; `cannot_serve` turns it into a sentence.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as bound:
        if os.name == "posix":  # allows the port of a server that just ended, but not a port in use
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((settings.host, settings.port))
        yield bound


def own_url(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens at `host`."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def cannot_serve(settings: Settings, error: OSError) -> str:
    """One line about a port, an address or a file that cannot be used, and the fix."""
    if error.filename is not None:  # of a file, not of the port
        return (
            f"cannot use {error.filename}: {error.strerror}. Fix: let this user read and write it, or give another "
            "folder with --state"
        )
    fix = "choose another address with --host"
    if error.errno == errno.EADDRINUSE:
        fix = "choose another port with --port, or stop the program that listens there"
    elif error.errno == errno.EACCES:
        fix = "choose a port above 1023 with --port"
    return f"cannot serve at {settings.host}:{settings.port}: {error.strerror or error}. Fix: {fix}"


@contextmanager
def ctrl_c_ends_at_once() -> Iterator[None]:
    """Until the server runs, nothing needs finishing: Ctrl-C prints one line, not a traceback from an import."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        os.write(2, b"\nStopped.\n")
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
