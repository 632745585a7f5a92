"""What a fuzz test may take: seconds for each case, and memory over the whole run.

With LENSMOUNT_SOAK=1 the tests run their full counts; `make soak` shows the figures that are logged here. A case that
hangs ends the process, and its tracebacks are in build/fuzz-hang-PID.txt: pytest's capture loses what an ending
process writes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SOAK = bool(os.environ.get("LENSMOUNT_SOAK"))
HANG_S = 20.0  # of processor time, so that a busy machine ends no case; no case takes a second
STUCK_S = 600.0  # on the clock, for a case that waits
HUNG = Path(__file__).parents[2] / "build" / f"fuzz-hang-{os.getpid()}.txt"
MOST_GROWTH = 64 * 2**20

log = logging.getLogger(__name__)


class Watch:
    """Counts the cases; `watch.touch()` before each starts the time of that case."""

    def __init__(self, file: IO[str]) -> None:
        self.cases = 0
        self._file = file

    def touch(self) -> None:
        self.cases += 1
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        faulthandler.dump_traceback_later(STUCK_S, exit=True, file=self._file)


@contextmanager
def watched(what: str) -> Iterator[Watch]:
    """End the process with every thread's traceback if a case hangs, and fail if memory grows without bound."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # from here on, VmHWM is the peak of this run alone
    before, peak_before, started = _resident("VmRSS"), _resident("VmHWM"), time.perf_counter()
    with _ended_if_it_hangs() as watch:
        yield watch
    seconds, after, peak = time.perf_counter() - started, _resident("VmRSS"), _resident("VmHWM")
    mb = [round(number / 2**20) for number in (before, after, peak)]
    log.info("%d %s in %.0f s; MB resident: %d before, %d after, %d at most", watch.cases, what, seconds, *mb)
    assert peak - peak_before < MOST_GROWTH, f"memory grew by {peak - peak_before} bytes"


@contextmanager
def _ended_if_it_hangs() -> Iterator[Watch]:
    HUNG.parent.mkdir(exist_ok=True)
    with HUNG.open("a") as file:
        faulthandler.register(signal.SIGPROF, file=file, chain=True)  # then the signal's own action: the process ends
        try:
            yield Watch(file)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
            faulthandler.unregister(signal.SIGPROF)
    if not HUNG.stat().st_size:
        HUNG.unlink()


def _resident(field: str) -> int:
    """Bytes by /proc/self/status; on systems without it, the peak of the process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
