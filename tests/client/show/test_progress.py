from __future__ import annotations

import sys

import pytest

from lensmount_client._show.progress import reporting


def test_a_callable_gets_the_events_itself() -> None:
    told = []
    with reporting(lambda done, total: told.append((done, total)), 2) as report:
        report(1, 2)
    assert told == [(1, 2)]


@pytest.mark.parametrize("progress", [True, False])
def test_nothing_is_drawn_without_a_terminal(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(progress, None) as report:
        report(1, None)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == ""


def test_without_rich_the_run_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with reporting(True, 1) as report:
        report(1, 1)
    assert capsys.readouterr() == ("", "")
