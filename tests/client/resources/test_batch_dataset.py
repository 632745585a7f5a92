"""Which sources are datasets on the server, and the note that finds their job again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lensmount_client import Client, InvalidInput
from lensmount_client._resources.batch_dataset import dataset_of


@pytest.mark.parametrize("source", ["cells", "cells@2", "public/cells", ["cells@2"]])
def test_a_name_is_a_dataset_if_nothing_here_has_it(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = source[0] if isinstance(source, list) else source
    assert dataset_of(source) == name
    (tmp_path / name).mkdir(parents=True)
    assert dataset_of(source) is None


@pytest.mark.parametrize("source", ["*.png", "Cells", "cells@x", "./cells", ["a", "b"], Path("cells")])
def test_a_path_a_pattern_and_a_list_are_not(source: Any) -> None:
    assert dataset_of(source) is None


def test_a_note_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Client("http://127.0.0.1:9") as client:
        (tmp_path / "out.csv").write_text("mine")
        with pytest.raises(InvalidInput, match="found a file there"):
            client.batch("cells", "malaria", "out.csv")
        (tmp_path / "out.csv.partial").write_text('{"format": 1}\n')
        with pytest.raises(InvalidInput, match="not the note of a job"):
            client.batch("cells", "malaria", "out.csv")
