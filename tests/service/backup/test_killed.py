"""A backup, a restore or a recovery that is killed at any point loses nothing, and the same command then finishes.

`pytest -m soak tests/service/backup` kills at every passage of a point; the usual run at the last one of each point.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.repair.test_check import bytes_of
from tests.service.repair.test_recover import spoil_index
from tests.service.states import Kept, settings_of

from lensmount_service import maintenance
from lensmount_service.backup.folder import BackupFolder
from lensmount_service.backup.manifest import read_manifest
from lensmount_service.errors import Unavailable
from lensmount_service.repair.start import require_usable

Run = Callable[..., Any]
Passage = tuple[str, int]  # a point, and the how many-th time it is passed, from 1
ROOT = Path(__file__).parent.parent.parent.parent
EVERY = [False, pytest.param(True, marks=pytest.mark.soak)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`run("backup", state, backups, at)` runs a command in a fork that kills itself at a passage; None: never."""
    folder = tmp_path_factory.mktemp("killing")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.backup.killing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["", str(ROOT), *sys.path])},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    orders, answers = process.stdin, process.stdout
    assert json.loads(answers.readline()) == {"ready": True}
    number = 0

    def do(what: str, state: Path, backups: Path, at: Passage | None) -> Any:
        nonlocal number
        number += 1
        command = {"do": what, "state": str(state), "backups": str(backups), "at": at}
        orders.write(json.dumps(command | {"out": str(folder / f"{number}.jsonl")}) + "\n")
        orders.flush()
        return json.loads(answers.readline())

    yield do
    process.kill()
    process.wait()
    orders.close()
    answers.close()


def passages(run: Run, what: str, state: Path, backups: Path, every: bool) -> list[Passage]:
    """The passages of points at which the command is to be killed."""
    counted = run(what, state, backups, None)
    assert counted["code"] == 0, counted
    points = counted["points"]
    return [
        (point, points[: at + 1].count(point))
        for at, point in enumerate(points)
        if every or point not in points[at + 1 :]
    ]


def killed(run: Run, what: str, state: Path, backups: Path, at: Passage) -> None:
    assert run(what, state, backups, at)["code"] == -signal.SIGKILL, at


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def complete(backups: Path) -> int:
    """How many backups there are, each with every file undamaged."""
    folder = BackupFolder(backups)
    manifests = [read_manifest(path) for path in folder.manifests()]
    entries = [entry for manifest in manifests for entry in manifest.files.values()]
    assert all(folder.holds(entry.digest, entry.size_bytes, read=True) for entry in entries)
    return len(manifests)


def is_usable(state: Path, command: str) -> bool:
    """Whether a start works; if not, it advises the command."""
    try:
        require_usable(state, settings_of(state).database_url())
    except Unavailable as error:
        assert f"`{command}" in str(error)  # noqa: PT017  # a start may also work
        return False
    return True


@pytest.mark.parametrize("every", EVERY)
def test_a_killed_backup_leaves_the_state_and_the_older_backups(
    run: Run, template: Kept, tmp_path: Path, every: bool
) -> None:
    older = tmp_path / "older"
    for _ in range(2):  # so that a third one prunes
        maintenance.make_backup(settings_of(template.folder), older)
    state = copied(template.folder, tmp_path / "state")
    (state / "blobs" / ("0" * 64)).write_bytes(b"")
    counted = passages(run, "backup", copied(state, tmp_path / "s"), copied(older, tmp_path / "b"), every)
    for number, at in enumerate(counted):
        backups = copied(older, tmp_path / f"b{number}")
        before = bytes_of(state)
        killed(run, "backup", state, backups, at)
        assert bytes_of(state) == before, at
        assert complete(backups) >= 2, at  # the older ones, or the new one and the newer of them
        assert run("backup", state, backups, None)["code"] == 0, at
        assert complete(backups) == 2, at


@pytest.mark.parametrize("every", EVERY)
def test_a_killed_restore_is_all_or_nothing_and_the_advised_command_finishes_it(
    run: Run, template: Kept, tmp_path: Path, every: bool
) -> None:
    backups = tmp_path / "backups"
    maintenance.make_backup(settings_of(template.folder), backups)
    before = bytes_of(backups)
    for number, at in enumerate(passages(run, "restore", tmp_path / "s", backups, every)):
        state = tmp_path / f"s{number}"
        killed(run, "restore", state, backups, at)
        assert bytes_of(backups) == before
        finished = (state / "registry.sqlite3").exists()
        if not finished or not is_usable(state, "lensmount restore FROM --state"):
            assert run("restore", state, backups, None)["code"] == 0, at
        require_usable(state, settings_of(state).database_url())
        assert maintenance.check(settings_of(state)).findings == (), at


@pytest.mark.parametrize("every", EVERY)
def test_a_killed_recovery_loses_nothing_and_the_same_command_finishes_it(
    run: Run, template: Kept, tmp_path: Path, every: bool
) -> None:
    damaged = copied(template.folder, tmp_path / "damaged")
    spoil_index(damaged / "registry.sqlite3")
    done = copied(damaged, tmp_path / "done")
    for number, at in enumerate(passages(run, "recover", done, tmp_path, every)):
        state = copied(damaged, tmp_path / f"s{number}")
        killed(run, "recover", state, tmp_path, at)
        is_usable(state, "lensmount store recover")
        assert run("recover", state, tmp_path, None)["code"] == 0, at
        require_usable(state, settings_of(state).database_url())
        assert maintenance.check(settings_of(state)).findings == (), at
        for name in ("blobs", "datasets", "pools", "jobs"):
            assert bytes_of(state / name) == bytes_of(damaged / name), at
