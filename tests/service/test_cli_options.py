"""The flags of the service's commands, against the settings that they set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from pydantic_settings import BaseSettings
from typer.main import get_command

from lensmount_service import cli
from lensmount_service.cli_options import read_settings
from lensmount_service.settings import Settings
from lensmount_service.worker.settings import WorkerSettings

OWN = {"calibrate": {"json"}, "gc": {"older_than", "json"}}  # options that are not settings


def flags_of(command: str) -> dict[str, Any]:
    app = typer.Typer(add_completion=False)
    app.command()(getattr(cli, command))
    return {parameter.name: parameter for parameter in get_command(app).params if parameter.name is not None}


@pytest.mark.parametrize(
    ("command", "settings"),
    [("serve", Settings), ("worker", WorkerSettings), ("calibrate", Settings), ("gc", Settings)],
)
def test_every_flag_sets_the_field_of_its_name_and_is_unset_by_default(
    command: str, settings: type[BaseSettings]
) -> None:
    flags = flags_of(command)

    assert OWN.get(command, set()) <= flags.keys()
    for name in flags.keys() - OWN.get(command, set()):
        assert name in settings.model_fields, name
        assert flags[name].opts == [f"--{name.replace('_', '-')}"]
        assert flags[name].default is None, name
        assert flags[name].help, name


def test_the_types_of_the_flags_follow_the_settings() -> None:
    hints = get_type_hints(cli.serve)
    fields_of: dict[object, set[str]] = {}
    for name, hint in hints.items():
        kind, none = get_args(hint)
        assert none is type(None), name
        fields_of.setdefault(kind, set()).add(name)

    assert fields_of[int] == {"port", "grpc_port", "hot_bytes", "threads", "max_batch", "replicas"}
    assert fields_of[bool] == {"zoo", "with_worker", "ray"}
    assert fields_of[Path] == {"state", "int8_calibration"}
    assert fields_of.keys() == {int, bool, Path, str}


def test_a_flag_that_is_left_out_leaves_the_variable_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_PORT", "9000")

    assert read_settings(Settings, {"port": None, "max_batch": 4}).port == 9000
    assert read_settings(Settings, {"port": 1}).port == 1


def test_several_wrong_flags_are_one_line_that_names_each() -> None:
    command = [sys.executable, "-m", "lensmount_client", "worker", "--nice", "20", "--server", "ftp://x"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)

    (line,) = ended.stderr.strip().splitlines()
    assert ended.returncode == 78
    assert line.startswith("lensmount worker: ")
    assert "--nice: " in line
    assert "--server: found the server 'ftp://x'" in line
