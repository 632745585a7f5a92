"""The terminal of a command: one line per epoch, and one line or one JSON document for an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer

from lensmount_adapters.cli.terminal import epoch_line, fail, progress_bar
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.training.schedule import EpochRecord
from lensmount_adapters.training.train_adapter import Progress


def progress(**fields: Any) -> Progress:
    """The end of epoch 3 of 5; keywords replace fields."""
    return Progress(epoch=3, epochs=5, step=7, steps=7, loss=0.5, accuracy=0.75, **fields)


def test_the_line_of_an_epoch_has_the_validation_figures_if_there_are_any() -> None:
    scored = EpochRecord(3, 0.5, 0.75, validation_loss=0.25, validation_balanced_accuracy=0.875)
    assert epoch_line(progress(done=scored)) == (
        "epoch   3  loss 0.5000  accuracy 0.7500  validation: loss 0.2500, balanced accuracy 0.8750"
    )
    assert epoch_line(progress(done=EpochRecord(3, 0.5, 0.75, None, None))) == (
        "epoch   3  loss 0.5000  accuracy 0.7500"
    )


def test_the_bar_prints_the_line_of_an_epoch_on_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(quiet=False) as listen:
        listen(progress())
        listen(progress(done=EpochRecord(3, 0.5, 0.75, None, None)))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("epoch   3  loss 0.5000  accuracy 0.7500") == 1


def test_a_quiet_bar_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(quiet=True) as listen:
        listen(progress(done=EpochRecord(3, 0.5, 0.75, None, None)))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_line_or_one_document_and_exit_1(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        fail(DatasetError("found no image"), as_json)
    assert ended.value.exit_code == 1
    shown = capsys.readouterr()
    if as_json:
        assert json.loads(shown.out) == {"error": {"code": "dataset_invalid", "message": "found no image"}}
        assert shown.err == ""
    else:
        assert (shown.out, shown.err) == ("", "Error: found no image\n")
