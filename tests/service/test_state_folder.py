from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from lensmount_service.state_folder import open_state_folder


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


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
