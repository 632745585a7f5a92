"""The state folder has datasets, adapters and the audit log, so only its owner should be able to read it."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

OTHERS = 0o077  # the rights of the group and of everybody else


def open_state_folder(folder: Path) -> None:
    """Create the folder for its owner alone. One that exists stays as it is; if others may read it, the log says so."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if os.name == "posix" and folder.stat().st_mode & OTHERS:
            log.warning("the state folder can be read by others", state=str(folder), fix=f"chmod 700 {folder}")
