"""The command as a person meets it: help, errors, exit statuses."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import Annotated, Any

import pytest
import typer

from lensmount_client import __version__
from lensmount_client._cli.lazy import LAZY_COMMANDS

COMMANDS = ("predict", "adapters", "datasets", "jobs", "serve", "worker", "gc", "train", "evaluate", "sizes")
GROUPS = {
    "adapters": ("list", "push", "pull", "delete", "alias", "inspect"),
    "datasets": ("list", "show", "push", "pull", "delete"),
    "jobs": ("submit", "list", "show", "watch", "cancel", "retry", "logs", "download"),
}


def test_the_help_lists_every_command_and_imports_none_of_the_other_packages(lensmount: Any) -> None:
    code, out, _ = lensmount("--help")
    assert code == 0
    for command in COMMANDS:
        assert f" {command} " in out
    assert "Train an adapter from a folder of labelled images." in out
    script = (
        "import sys; from lensmount_client._cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "others = {'torch', 'numpy', 'PIL', 'fastapi', 'lensmount_service', 'lensmount_adapters'}\n"
        "print(sorted(others & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_help_of_every_client_command_explains_its_options(lensmount: Any) -> None:
    for command in (["predict"], *([group, name] for group, names in GROUPS.items() for name in names)):
        code, out, _ = lensmount(*command, "--help")
        assert code == 0
        assert all(option in out for option in ("--url", "--token", "--json", "LENSMOUNT_URL", "LENSMOUNT_TOKEN"))


def test_adapters_alone_and_the_bare_command_show_their_help(lensmount: Any) -> None:
    for arguments in ((), *((group,) for group in GROUPS)):
        code, out, err = lensmount(*arguments)
        assert "Usage" in out + err
        assert code == 2


def test_version(lensmount: Any) -> None:
    assert lensmount("--version") == (0, f"lensmount {__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lensmount ", {"serve", "train", "predict", "adapters"}),
        ("lensmount adapters ", {"list", "alias"}),
        ("lensmount jobs submit --rank", {"--rank"}),
        ("lensmount train --epo", {"--epochs"}),  # of another package, imported for it
    ],
)
def test_the_shell_completes_commands_and_options(line: str, words: set[str]) -> None:
    environment = {**os.environ, "_LENSMOUNT_COMPLETE": "complete_bash", "COMP_WORDS": line}
    environment["COMP_CWORD"] = str(len(f"{line}|".split()) - 1)
    done = subprocess.run(
        [sys.executable, "-c", "from lensmount_client._cli.main import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stderr == ""
    assert words <= set(done.stdout.split())


def test_the_completion_script_is_shown_and_can_be_installed(lensmount: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))  # make runs its commands in sh
    code, out, err = lensmount("--show-completion", "bash")
    assert (code, err) == (0, "")
    assert "complete -o default -F _lensmount_completion lensmount" in out
    assert "--install-completion" in lensmount("--help")[1]


def test_wrong_usage_is_exit_status_2_and_suggests_the_right_word(lensmount: Any) -> None:
    code, _, err = lensmount("predit")
    assert code == 2
    assert "predict" in err


def test_a_token_over_http_is_refused_in_one_line_with_the_fix(lensmount: Any) -> None:
    code, out, err = lensmount("adapters", "delete", "x", "--url", "http://nowhere.invalid:1", "--token", "t")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--insecure" in err


def test_a_command_of_another_package_is_imported_when_used(lensmount: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def serve(port: Annotated[int, typer.Option(help="Where to listen.")] = 8000) -> None:
        """Start a server, really."""
        seen.append(port)

    module = types.ModuleType("lensmount_service.cli")
    module.serve = serve  # type: ignore[attr-defined]  # a module made by hand
    monkeypatch.setitem(sys.modules, "lensmount_service.cli", module)
    assert lensmount("serve", "--port", "7") == (0, "", "")
    assert seen == [7]
    code, out, _ = lensmount("serve", "--help")
    assert code == 0
    assert "Start a server, really." in out
    assert "Where to listen." in out
    assert "lensmount serve" in out


@pytest.mark.parametrize(
    ("command", "extra"), [("serve", "serve"), ("train", "train"), ("evaluate", "train"), ("sizes", "train")]
)
def test_without_its_extra_a_command_says_what_to_install(
    command: str, extra: str, lensmount: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, LAZY_COMMANDS[command].module, None)
    code, out, err = lensmount(command, "--anything")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f'this command needs: pip install "lensmount[{extra}]"')
