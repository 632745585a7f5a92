"""One capture of a CUDA graph at a time, and nothing that would break one while it is under way.

CUDA allows one capture per process. A wait for the whole device, or memory that is given back to it, ends the capture
of another thread. So captures wait for their own stream only, and memory is given back by `give_memory_back` alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

CAPTURING = threading.RLock()
"""Held from the warm-up of a capture to its end, in any thread of the process."""


@contextmanager
def captured_alone(graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream, pool: object) -> Iterator[None]:
    """What is launched inside becomes the graph. The caller holds `CAPTURING`, and `stream` is the current one.

    torch.cuda.graph waits for the whole device and empties torch's cache; this waits for the stream alone.
    """
    stream.synchronize()
    # thread_local: another thread may allocate memory and launch work during the capture
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")  # type: ignore[arg-type]  # a private type of torch
    try:
        yield
    except BaseException:
        with suppress(RuntimeError):  # says that the capture was ended, and would hide why
            graph.capture_end()
        raise
    graph.capture_end()


def give_memory_back(device: torch.device) -> None:
    """Return the blocks that torch holds unused to the device. Does nothing on a CPU."""
    if device.type == "cuda":
        with CAPTURING, torch.cuda.device(device):
            torch.cuda.empty_cache()
