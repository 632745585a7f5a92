"""`python -m lensmount_client` is the command `lensmount`."""

from __future__ import annotations

import runpy
import sys

import pytest

from lensmount_client import __version__


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ignored", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lensmount_client", run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out == f"lensmount {__version__}\n"


def test_wrong_usage_is_exit_status_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ignored", "--no-such-option"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lensmount_client", run_name="__main__")
    assert ended.value.code == 2
    assert "Usage: lensmount" in capsys.readouterr().err
