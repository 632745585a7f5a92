"""What the pages show and no test runs, because it needs files of the reader, is at least right: every command, option,
variable, extra, method and table in it exists. `test_docs.py` runs the rest.
"""

from __future__ import annotations

import ast
import csv
import functools
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs.site.generated import commands
from pydantic import AliasChoices

from lensmount_client import Client
from lensmount_service.settings import Settings
from lensmount_service.worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
KINDS = {"", "bash", "python", "py", "json", "toml", "csv", "yaml"}
CLIENT_VARIABLES = {"LENSMOUNT_URL", "LENSMOUNT_TOKEN", "LENSMOUNT_WORKER_THREADS", "LENSMOUNT_SOAK"}


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the text of each block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def of_kind(*kinds: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{page}: {text.strip()[:40]}")
        for page in PAGES
        for kind, text in blocks(page)
        if kind in kinds
    ]


def command_lines(page: str) -> Iterator[str]:
    """Every command line of ours in a block or in the text of a page."""
    text = (ROOT / page).read_text()
    for _, block in blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:[A-Z_]+=(?:'[^']*'|\S*) +)*(?:\.venv/bin/)?(lensmount .+)", line)
            if found and not found[1].startswith("lensmount serve ["):  # which names the options in brackets
                yield re.split(r" {2,}|  ?#| [>|] | >> ", found[1])[0]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`(lensmount [^`]+)`", prose)


@functools.cache
def root() -> Any:
    return commands()


def unknown_in(line: str) -> str:
    """What a command line has that the command does not; an empty text if it is right."""
    import click

    words = [word for word in shlex.split(line)[1:] if word not in ("...", "…")]
    command, names = root(), []
    while words and getattr(command, "commands", None):
        if words[0] in ("--help", "--version"):
            return ""
        names.append(words.pop(0))
        if "|" in names[-1] or "/" in names[-1]:  # several commands in one word
            missing = set(re.split(r"[|/]", names[-1])) - command.commands.keys()
            return f"no commands {missing}" if missing else ""
        command = command.commands.get(names[-1])
        if command is None:
            return f"no command {' '.join(names)}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)]
    if unknown := [name for name in given if name not in options | {"--help"}]:
        return f"no {', '.join(unknown)} of {' '.join(names)}"
    try:
        context = click.Context(command, info_name="lensmount", resilient_parsing=True)
        command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        if words and not words[-1].startswith("-"):
            return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_names_commands_and_options_that_exist(page: str) -> None:
    assert {line: unknown for line in command_lines(page) if (unknown := unknown_in(line))} == {}


def test_a_command_or_an_option_that_does_not_exist_is_found() -> None:
    assert unknown_in("lensmount adapters lst") == "no command adapters lst"
    assert unknown_in("lensmount train --dat cells/") == "no --dat of train"
    assert unknown_in("lensmount train --data cells/ --name a --out a.safetensors") == ""


def test_every_block_says_what_it_is() -> None:
    assert {(page, kind) for page in PAGES for kind, _ in blocks(page) if kind not in KINDS} == set()


@pytest.mark.parametrize("text", of_kind("json"))
def test_every_json_block_is_json(text: str) -> None:
    json.loads(text if text.lstrip().startswith(("{", "[")) else f"{{{text}}}")


@pytest.mark.parametrize("text", of_kind("toml"))
def test_every_toml_block_is_toml(text: str) -> None:
    assert tomllib.loads(text)


@pytest.mark.parametrize("text", of_kind("yaml"))
def test_every_yaml_block_is_yaml(text: str) -> None:
    assert yaml.safe_load(text)


@pytest.mark.parametrize("text", of_kind("csv"))
def test_every_csv_block_is_a_table(text: str) -> None:
    rows = list(csv.reader(text.splitlines()))
    assert len(rows) >= 2
    assert {len(row) for row in rows} == {len(rows[0])}


@pytest.mark.parametrize("text", of_kind("python", "py"))
def test_every_call_of_the_client_in_a_python_block_fits_its_signature(text: str) -> None:
    with Client("http://127.0.0.1:9") as client:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and re.match(r"(client|c)\.[\w.]+$", called := ast.unparse(node.func)):
                if called.startswith("client.infer") or "triton" in text or "InferenceClient" in text:
                    continue  # a client of another project
                method: Any = client
                for name in called.split(".")[1:]:
                    method = getattr(method, name)
                inspect.signature(method).bind(*node.args, **{word.arg: word for word in node.keywords if word.arg})


def _variables(kind: type[Settings | WorkerSettings]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield f"LENSMOUNT_{name.upper()}"
        if isinstance(field.validation_alias, AliasChoices):
            yield from (str(choice) for choice in field.validation_alias.choices)


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_extra_and_make_target_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    fields = {variable for kind in (Settings, WorkerSettings) for variable in _variables(kind)}
    named = set(re.findall(r"\bLENSMOUNT_[A-Z][A-Z_]*[A-Z]\b(?![_A-Z]*`?, `_)", text))
    families = {name for name in named if any(field.startswith(name) for field in fields)}
    assert named - fields - CLIENT_VARIABLES - families == set()

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {extra for found in re.findall(r"(?:\.|lensmount)\[([a-z0-9,]+)\]", text) for extra in found.split(",")}
    assert wanted <= extras.keys()

    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", text, re.MULTILINE))
    assert made <= targets
