"""State folders as a second start finds them: with their tables, and with the programs and costs of earlier servers.

Each server of a test would otherwise run all migrations, convert the backbone for OpenVINO and measure its programs,
which takes longer than the test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lensmount_adapters import Backbone
from lensmount_service.build import Parts, open_parts
from lensmount_service.settings import Settings
from lensmount_service.store.database import Database

EXACT: dict[str, Any] = {"executor": "eager", "precision": "float32", "integrity_age_s": 0}
REGISTRY, PROGRAMS = "registry.sqlite3", "programs"


class KnownMachine:
    """`with machine.open(state, backbone, max_queue=4) as parts:` opens a server's parts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        database = Database(folder / REGISTRY)
        database.create()
        database.close()

    def prepare(self, state: Path) -> None:
        """Put the tables, programs and costs into a state folder, for a server in another process."""
        self.create_tables(state)
        _share_programs(self._folder, state)

    def create_tables(self, state: Path) -> Path:
        """The database of a state folder; unless it exists, all its tables are put there."""
        state.mkdir(parents=True, exist_ok=True)
        if not (state / REGISTRY).exists():
            shutil.copy(self._folder / REGISTRY, state / REGISTRY)
        return state / REGISTRY

    @contextmanager
    def open(self, state: Path, backbone: Backbone, own: Backbone | None = None, **settings: Any) -> Iterator[Parts]:
        self.prepare(state)
        with open_parts(Settings(state=state, zoo=False, threads=1, **(EXACT | settings)), own or backbone) as parts:
            yield parts
        _share_programs(state, self._folder)


def _share_programs(here: Path, there: Path) -> None:
    for costs in (here / PROGRAMS).glob("costs-*.json"):
        (there / PROGRAMS).mkdir(parents=True, exist_ok=True)
        shutil.copy(costs, there / PROGRAMS / costs.name)
    for program in (here / PROGRAMS).glob("openvino-*"):
        if not (there / PROGRAMS / program.name).exists():
            shutil.copytree(program, there / PROGRAMS / program.name, copy_function=os.link)  # none is written again
