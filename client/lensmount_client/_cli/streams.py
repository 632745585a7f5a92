"""Standard output and error as the commands need them: open, able to write any text, and written out before the end.

A shell may close a stream (`>&-`), give it an encoding without the characters of a label, or lead it to a full disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

STREAMS = ("stdin", "stdout", "stderr")


def open_streams() -> None:
    """Give a closed stream to the null device, and let characters that the terminal lacks be written as \\u escapes.

    Otherwise the next file or socket that is opened would take the stream's number, and get what is printed.
    """
    for name in STREAMS:
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115, PTH123  for good
        elif isinstance(stream, io.TextIOWrapper) and name == "stdout":
            stream.reconfigure(errors="backslashreplace")  # stderr has this from the start


def write_out() -> None:
    """Write what is still buffered. Raises OSError, and then nothing is left that could fail when the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
