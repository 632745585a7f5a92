"""`lensmount calibrate` measures every way to compute for the registered adapters; the next start uses the figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import typer
from typer.testing import CliRunner, Result

from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_service import cli, logs
from lensmount_service.build import Parts, open_parts
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], AbstractContextManager[Parts]]:
    """The parts of a server in plain torch, closed after all background work."""

    @contextmanager
    def opened() -> Iterator[Parts]:
        settings = Settings(
            backbone="test_resnet",
            weights="random:0",
            state=tmp_path,
            threads=1,
            device="cpu",
            zoo=False,
            executor="eager",
            precision="float32",
        )
        with open_parts(settings) as parts:
            yield parts
            for _ in range(2):  # finished work may start further work
                cast(SegmentRunner, parts.engine.runner).settle()
            parts.engine.runner.close()

    return opened


@pytest.fixture
def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in this process; tests/service/test_cli.py and tests/test_extras.py start it in one of its own."""
    monkeypatch.setenv("LENSMOUNT_ZOO", "false")
    monkeypatch.setattr(logs, "configure", lambda settings: None)  # it configures the whole process
    app = typer.Typer()
    app.command("calibrate")(cli.calibrate)

    def run(*options: str) -> Result:
        small = ["--backbone", "test_resnet", "--weights", "random:0", "--device", "cpu", "--threads", "1"]
        return CliRunner().invoke(app, ["--state", str(tmp_path), *small, *options])

    return run


def test_calibration_measures_hot_merged_and_mixed_and_a_server_uses_the_figures(
    opened: Callable[[], AbstractContextManager[Parts]],
    calibrate: Callable[..., Result],
    make_adapter: MakeAdapter,
) -> None:
    with opened() as parts:
        parts.catalog.upload("cells", make_adapter(1))

    result = calibrate("--executor", "eager", "--precision", "float32", "--json")

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["engine"] == {"mode": "segments", "executor": "eager", "precision": "float32"}
    ways = [name.partition(": ")[2].split()[0] for name in document["branch"]]
    assert sorted(ways) == ["hot", "merged", "mixed", "trunk"]
    assert all(line["fixed_s"] >= 0 and line["per_image_s"] >= 0 for line in document["branch"].values())
    with opened() as parts:
        kept = {name: line.per_image for name, line in cast(SegmentRunner, parts.engine.runner).book.lines.items()}
    assert kept == {name: line["per_image_s"] for name, line in document["branch"].items()}


def test_people_get_a_table_in_milliseconds(
    opened: Callable[[], AbstractContextManager[Parts]],
    calibrate: Callable[..., Result],
    make_adapter: MakeAdapter,
) -> None:
    with opened() as parts:
        parts.catalog.upload("cells", make_adapter(1))

    result = calibrate("--executor", "eager")

    assert result.exit_code == 0, result.output
    assert "executor eager" in result.stdout
    assert ": hot: 1 image " in result.stdout
