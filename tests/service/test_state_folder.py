from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from lensmount_service.errors import Unavailable
from lensmount_service.state_folder import RECOVERED, RESTORING, alone_in, in_use, open_state_folder


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Other users may go into it, which those of pytest do not allow."""
    folder = Path(tempfile.mkdtemp(prefix="lensmount-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("umask")
def test_a_new_folder_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    open_state_folder(tmp_path / "new" / "state")

    assert mode_of(tmp_path / "new" / "state") == 0o700


@pytest.mark.usefixtures("umask")
def test_a_folder_that_others_may_read_stays_as_it_is_and_the_log_says_how_to_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("lensmount_service.state_folder.log", log)
    state = tmp_path / "state"
    state.mkdir(mode=0o755)

    open_state_folder(state)
    assert mode_of(state) == 0o755
    (told,) = log.calls
    assert (told.method_name, told.kwargs["fix"]) == ("warning", f"chmod 700 {state}")

    state.chmod(0o700)  # as the advice says
    open_state_folder(state)
    assert len(log.calls) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "on a disk that can only be read"),
        (errno.EACCES, "chown -R"),
        (errno.EPERM, "chown -R"),
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EIO, "cannot be used"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_with_the_reason_and_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(**options: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", fail)
        with pytest.raises(Unavailable, match="Fix: ") as caught:
            open_state_folder(tmp_path)
    assert words in str(caught.value)
    open_state_folder(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_of_another_owner_is_refused_and_the_advised_commands_help(public_folder: Path) -> None:
    """In a process that is another user, as a service is."""
    state = public_folder / "state"
    state.mkdir(mode=0o700)
    script = (
        "import os, sys; os.setuid(65534)\n"
        "from pathlib import Path\n"
        "from lensmount_service.state_folder import open_state_folder\n"
        "open_state_folder(Path(sys.argv[1]))"
    )

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", f"import lensmount_service.state_folder\n{script}", str(state)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    refused = start()
    assert "found the state folder" in refused.stderr
    commands = re.findall(r"`(ch[^`]+)`", refused.stderr.splitlines()[-1])
    assert len(commands) == 2
    for command in commands:
        subprocess.run(command.split(), check=True)
    ended = start()
    assert ended.returncode == 0, ended.stderr


def test_what_a_restore_or_a_recovery_left_unfinished_is_refused(tmp_path: Path) -> None:
    for name, command in ((RESTORING, "lensmount restore FROM"), (RECOVERED, "lensmount store recover")):
        (tmp_path / name).mkdir()
        with pytest.raises(Unavailable, match=f"{command} --state"):
            open_state_folder(tmp_path)
        (tmp_path / name).rmdir()
    open_state_folder(tmp_path)


def test_many_use_a_folder_together_and_one_uses_it_alone(tmp_path: Path) -> None:
    with in_use(tmp_path), in_use(tmp_path), pytest.raises(Unavailable, match="stop it first"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path), pytest.raises(Unavailable, match="wait until"), in_use(tmp_path):
        pass
    with in_use(tmp_path):
        pass
