"""`lensmount calibrate`: the ways to compute are measured for the adapters at hand and kept for the next start."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from lensmount_client._cli import app
from lensmount_service.server import open_parts
from lensmount_service.settings import Settings


def options(state):
    return {"backbone": "resnet10t", "weights": "random:0", "state": state, "threads": 1, "device": "cpu"}


def arguments(state):
    return [part for name, value in options(state).items() for part in (f"--{name}", str(value))]


def test_it_measures_hot_merged_and_mixed_and_a_server_uses_the_figures(tmp_path, make_adapter, monkeypatch):
    monkeypatch.setenv("LENSMOUNT_ZOO", "false")
    settings = Settings(**options(tmp_path), zoo=False, executor="eager", precision="float32")
    with open_parts(settings) as parts:
        parts.catalog.upload("cells", make_adapter(1))

    result = CliRunner().invoke(
        app, ["calibrate", *arguments(tmp_path), "--executor", "eager", "--precision", "float32", "--json"]
    )

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["engine"] == {"mode": "segments", "executor": "eager", "precision": "float32"}
    ways = [name.partition(": ")[2].split()[0] for name in document["branch"]]
    assert sorted(ways) == ["hot", "merged", "mixed"]
    assert all(line["fixed_s"] >= 0 and line["per_image_s"] >= 0 for line in document["branch"].values())
    with open_parts(settings) as parts:
        kept = {name: line.per_image for name, line in parts.engine.runner.book.lines.items()}
    assert kept == {name: line["per_image_s"] for name, line in document["branch"].items()}


def test_people_get_a_table_in_milliseconds(tmp_path, make_adapter, monkeypatch):
    monkeypatch.setenv("LENSMOUNT_ZOO", "false")
    with open_parts(Settings(**options(tmp_path), zoo=False, executor="eager", precision="float32")) as parts:
        parts.catalog.upload("cells", make_adapter(1))

    result = CliRunner().invoke(app, ["calibrate", *arguments(tmp_path), "--executor", "eager"])

    assert result.exit_code == 0, result.output
    assert "executor eager" in result.stdout
    assert ": hot: 1 image " in result.stdout


def test_an_executor_that_is_not_there_is_one_line_with_the_cure(tmp_path):
    result = CliRunner().invoke(app, ["calibrate", *arguments(tmp_path), "--executor", "cudagraphs"])

    assert result.exit_code == 78
    assert "Cure" in result.output


def test_adapters_are_warm_before_their_first_request(tmp_path, make_adapter):
    settings = Settings(**options(tmp_path), zoo=False, executor="eager", precision="float32")
    with open_parts(settings) as parts:
        parts.catalog.upload("cells", make_adapter(1))
    with open_parts(settings) as parts:
        assert parts.catalog.tiers() == {"cells": "file"}
        parts.catalog.warm()
        parts.engine.runner.settle()
        parts.engine.runner.settle()
        assert parts.catalog.tiers() == {"cells": "hot"}
