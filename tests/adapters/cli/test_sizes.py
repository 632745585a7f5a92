"""`lensmount sizes` prints the table, writes it to a file, and says in one line what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.cli.sizes import sizes
from lensmount_adapters.errors import BackboneError, TrainingError
from lensmount_adapters.report.size_table import size_table

app = typer.Typer()
app.command("sizes")(sizes)
run = CliRunner()


def test_the_command_prints_the_table_and_writes_the_file(tmp_path: Path) -> None:
    result = run.invoke(app, ["test_efficientnet", "--rank", "2", "--rank", "8", "--out", str(tmp_path / "a.md")])
    assert result.exit_code == 0, result.output
    assert "| lora 2 | lora-tucker 2 | lora 8 | lora-tucker 8 |" in result.stdout
    assert (tmp_path / "a.md").is_file()


@pytest.mark.parametrize("arguments", [["no_such_net"], ["test_efficientnet", "--targets", "nowhere"]], ids=str)
def test_an_unknown_backbone_or_layer_is_one_line_on_the_error_stream(arguments: list[str]) -> None:
    result = run.invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    with pytest.raises((BackboneError, TrainingError)):
        size_table(arguments[0], (4,), arguments[-1])
