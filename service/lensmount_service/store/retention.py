"""How long things stay."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """None means for good. `keep_versions`: of each adapter, besides those of aliases."""

    undelete_s: float = 7 * 86_400.0
    keep_versions: int | None = None
    keep_job_files_s: float | None = None  # reports, logs and checkpoints of jobs that ended
