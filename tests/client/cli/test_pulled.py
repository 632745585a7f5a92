"""Names of adapters on a server become files for a command of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lensmount_client._cli.options import Address
from lensmount_client._cli.pulled import from_server, pulled, split_weight
from lensmount_client._errors import AdapterNotFound


@pytest.fixture
def address(server: Any) -> Address:
    return Address(url=server.url)


@pytest.mark.parametrize("name", ["malaria", "malaria:prod", "malaria@1"])
def test_a_name_is_downloaded_for_as_long_as_the_command_runs(name: str, address: Address) -> None:
    with pulled({"adapters": [f"{name}:0.7"], "head": "malaria"}, address) as options:
        file, _, weight = options["adapters"][0].rpartition(":")
        assert (Path(file).name, weight, options["head"]) == (f"{name}.safetensors", "0.7", "malaria")
        assert Path(file).read_bytes() == b"malaria file"
    assert not Path(file).exists()


def test_files_and_paths_are_left_as_they_are(
    tmp_path: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smoking").write_bytes(b"a file without a suffix")
    given = ["a.safetensors:0.7", "folder/b", "smoking:-1", "none.safetensors"]

    with pulled({"adapters": given}, address) as options:
        assert options["adapters"] == given


def test_a_name_that_the_server_does_not_have_is_its_own_error(address: Address) -> None:
    with pytest.raises(AdapterNotFound), pulled({"adapters": ["none:0.5"]}, address):
        pass


def test_a_command_gets_the_options_of_a_server_and_the_files_of_the_server_that_they_name(server: Any) -> None:
    found: list[bytes] = []
    tokens: list[str] = []
    answer = server.answer
    server.answer = lambda *call: (tokens.append(call[-1]["Authorization"]), answer(*call))[1]

    def join(adapters: list[str], json: bool = False) -> None:
        """Join adapters."""
        found.extend(Path(text.rpartition(":")[0]).read_bytes() for text in adapters)

    app = typer.Typer()
    app.command()(from_server(join))
    arguments = ["malaria:0.7", "--url", server.url, "--token", "secret", "--json"]
    result = CliRunner(env={"LENSMOUNT_URL": "http://127.0.0.1:9"}).invoke(app, arguments, catch_exceptions=False)

    assert (result.exit_code, found) == (0, [b"malaria file"])
    assert set(tokens) == {"Bearer secret"}


def test_compose_has_the_options_of_a_server(lensmount: Any) -> None:
    pytest.importorskip("torch")
    _, out, _ = lensmount("adapters", "compose", "--help")

    assert [flag for flag in ("--url", "--token", "--insecure") if flag not in out] == []


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
