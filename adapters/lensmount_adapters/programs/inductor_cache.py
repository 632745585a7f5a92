"""The folder of TorchInductor's cache, which Inductor reads from the environment of the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

_ENVIRONMENT = threading.RLock()  # all instances share the environment of the process


@contextmanager
def in_cache(folder: Path | None) -> Iterator[None]:
    """Point Inductor to the cache folder. It reads the folder from the environment.

    If the variable is missing, Inductor sets it to its default in /tmp, so the variable is restored afterwards.
    """
    if folder is None:
        yield
        return
    with _ENVIRONMENT:
        before = os.environ.get(CACHE_VARIABLE)
        os.environ[CACHE_VARIABLE] = str(folder / "inductor")
        try:
            yield
        finally:
            os.environ.pop(CACHE_VARIABLE)
            if before is not None:
                os.environ[CACHE_VARIABLE] = before
