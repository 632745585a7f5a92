"""Names of adapters on a server become files for a command of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lensmount_client._cli.pulled import pulled, split_weight
from lensmount_client._errors import AdapterNotFound


@pytest.fixture(autouse=True)
def _url(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)


@pytest.mark.parametrize("name", ["malaria", "malaria:prod", "malaria@1"])
def test_a_name_is_downloaded_for_as_long_as_the_command_runs(name: str) -> None:
    with pulled({"adapters": [f"{name}:0.7"], "head": "malaria"}) as options:
        file, _, weight = options["adapters"][0].rpartition(":")
        assert (Path(file).name, weight, options["head"]) == (f"{name}.safetensors", "0.7", "malaria")
        assert Path(file).read_bytes() == b"malaria file"
    assert not Path(file).exists()


def test_files_and_paths_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smoking").write_bytes(b"a file without a suffix")
    given = ["a.safetensors:0.7", "folder/b", "smoking:-1", "none.safetensors"]

    with pulled({"adapters": given}) as options:
        assert options["adapters"] == given


def test_a_name_that_the_server_does_not_have_is_its_own_error() -> None:
    with pytest.raises(AdapterNotFound), pulled({"adapters": ["none:0.5"]}):
        pass


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("malaria", ("malaria", "1")),
        ("malaria:0.7", ("malaria", "0.7")),
        ("malaria:prod", ("malaria:prod", "1")),
        ("malaria:prod:-2", ("malaria:prod", "-2")),
        ("malaria@3:1e-1", ("malaria@3", "1e-1")),
        ("0.7", ("0.7", "1")),
    ],
)
def test_the_last_number_is_the_weight(text: str, split: tuple[str, str]) -> None:
    assert split_weight(text) == split
