"""What a fuzz test may take: seconds for each case, and memory over the whole run.

With LENSMOUNT_SOAK=1 the tests run their full counts; `make soak` shows the figures that are logged here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOAK = bool(os.environ.get("LENSMOUNT_SOAK"))
HANG_S = 20.0  # a case of a second on a machine that is busy with other work
MOST_GROWTH = 64 * 2**20

log = logging.getLogger(__name__)


class Watch:
    """Counts the cases; `watch.touch()` before each starts the time of that case."""

    def __init__(self) -> None:
        self.cases = 0

    def touch(self) -> None:
        self.cases += 1
        faulthandler.dump_traceback_later(HANG_S, exit=True, file=2)


@contextmanager
def watched(what: str) -> Iterator[Watch]:
    """End the process with every thread's traceback if a case hangs, and fail if memory grows without bound."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # from here on, VmHWM is the peak of this run alone
    before, peak_before, started, watch = _resident("VmRSS"), _resident("VmHWM"), time.perf_counter(), Watch()
    try:
        yield watch
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds, after, peak = time.perf_counter() - started, _resident("VmRSS"), _resident("VmHWM")
    mb = [round(number / 2**20) for number in (before, after, peak)]
    log.info("%d %s in %.0f s; MB resident: %d before, %d after, %d at most", watch.cases, what, seconds, *mb)
    assert peak - peak_before < MOST_GROWTH, f"memory grew by {peak - peak_before} bytes"


def _resident(field: str) -> int:
    """Bytes by /proc/self/status; on systems without it, the peak of the process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
