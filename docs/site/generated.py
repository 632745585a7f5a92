"""The pages that are made from the code: the references of the SDK, the command line and the REST API, and messages."""

from __future__ import annotations

import ast
import functools
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SDK = {  # the headings of the page and the names below each
    "Clients": ("Client", "AsyncClient"),
    "Answers": ("Prediction", "Outcome", "Segmentation", "Explanation", "Health", "Integrity", "WhoAmI"),
    "Jobs and datasets": ("Job", "AsyncJob", "JobOptions", "Dataset"),
    "Errors": ("LensmountError", "ProblemError"),
}
RESOURCES = ("adapters.Adapters", "datasets.Datasets", "jobs.Jobs", "pools.Pools", "rollouts.Rollouts", "tokens.Tokens")


def sdk() -> str:
    """Directives for mkdocstrings, which reads the docstrings without importing the package."""
    import lensmount_client

    lines = [
        "# SDK",
        "",
        "Every public name of `lensmount_client` that a program usually needs, from its docstring.",
        "",
    ]
    for heading, names in SDK.items():
        lines += [f"## {heading}", ""]
        for name in names:
            if name in lensmount_client.__all__:
                lines += [f"::: lensmount_client.{name}", ""]
        if heading == "Clients":
            lines += [line for name in RESOURCES for line in (f"::: lensmount_client._resources.{name}", "")]
    return "\n".join(lines)


def command_line() -> str:
    """Every command with its options, by typer's own generator."""
    from typer.cli import get_docs_for_click
    from typer.models import Context

    root = commands()
    context = Context(root, info_name="lensmount")
    return get_docs_for_click(obj=root, ctx=context, name="lensmount", title="Command line")


def commands() -> Any:
    """The command `lensmount` with all its commands loaded, those of the other packages too."""
    from typer.main import get_command

    from lensmount_client._cli.lazy import LazyCommand
    from lensmount_client._cli.main import app

    def load(command: Any) -> Any:
        command = command._load() if isinstance(command, LazyCommand) else command
        for name, inner in getattr(command, "commands", {}).items():
            command.commands[name] = load(inner)
        return command

    return load(get_command(app))


def rest() -> str:
    """Every route, from the OpenAPI document of a server with a tiny backbone."""
    document = openapi()
    by_tag: dict[str, list[str]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation.get("tags", ["other"])[0]] += _route(method.upper(), path, operation)
    lines = ["# REST API", "", "Every route, from the OpenAPI document that a server answers at `/openapi.json`.", ""]
    lines += [
        "[HTTP API](../api.md) says how they work together, [Troubleshooting](../troubleshooting.md) what errors mean."
    ]
    for tag in sorted(by_tag):
        lines += ["", f"## {tag}", "", *by_tag[tag]]
    return "\n".join(lines)


def openapi() -> dict[str, Any]:
    """The OpenAPI document of a server."""
    from lensmount_service.build import open_parts
    from lensmount_service.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        tiny = Settings(state=state, backbone="test_resnet", weights="random:0", zoo=False, executor="eager", threads=1)
        with open_parts(tiny) as parts:
            return parts.app.openapi()


def _route(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield from (f"### `{method} {path}`", "", f"{operation.get('summary', '')}.", "")
    if description := operation.get("description"):
        yield from (description.strip(), "")
    if parameters := operation.get("parameters"):
        yield from ("| parameter | in | type | meaning |", "|---|---|---|---|")
        for given in parameters:
            name = f"`{given['name']}`" + (" (required)" if given.get("required") else "")
            meaning = _cell(given.get("description", ""))
            yield f"| {name} | {given['in']} | {_type(given.get('schema', {}))} | {meaning} |"
        yield ""
    if body := operation.get("requestBody"):
        kinds = (f"`{kind}`{_of(content)}" for kind, content in body["content"].items())
        yield from (f"Body: {', '.join(kinds)}.", "")
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            kinds = (f"`{kind}`{_of(content)}" for kind, content in answer.get("content", {}).items())
            yield from (f"Answer {status}: {', '.join(kinds) or 'no body'}.", "")


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if any(word in schema for word in ("anyOf", "oneOf")):
        kinds = (_type(part) for part in schema.get("anyOf") or schema["oneOf"] if part.get("type") != "null")
        return " or ".join(kinds)
    values = " ".join(f"`{value}`" for value in schema.get("enum", ()))
    inner = f" of {_type(schema['items'])}" if "items" in schema else ""
    bounds = "".join(
        f", {word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema
    )
    return _cell(values or f"{schema.get('type', 'any')}{inner}{bounds}")


def _of(content: dict[str, Any]) -> str:
    kind = _type(content.get("schema", {}))
    return f" ({kind})" if kind.startswith("`") else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def with_messages(text: str, root: Path) -> str:
    """The page of troubleshooting with the messages of each code, as the source has them."""
    messages = messages_of(root)

    def entry(found: re.Match[str]) -> str:
        told = sorted(messages.get(found[1], ()), key=lambda line: (len(line), line))
        shown = [f"* {_literal(line)}" for line in told[:6]]
        return found[0] + ("\n".join(["\nThe server says, for example:\n", *shown]) + "\n" if shown else "")

    return re.sub(r"^### `(\w+)`\n\n.*\n\n\*\*Fix:\*\* .*\n", entry, text, flags=re.MULTILINE)


def _literal(line: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", line)


@functools.cache
def messages_of(root: Path) -> dict[str, set[str]]:
    """Every code to the messages that the source raises with it; `…` takes the place of what is found at run time."""
    sources = [path for name in ("service", "adapters") for path in (root / name).glob("lensmount_*/**/*.py")]
    trees = [ast.parse(path.read_text()) for path in sources]
    of_class = {
        node.name: code
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and (code := _default_code(node))
    }
    messages: dict[str, set[str]] = defaultdict(set)
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                given = next((word.value for word in node.keywords if word.arg == "code"), None)
                name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
                code = str(given.value) if isinstance(given, ast.Constant) else of_class.get(str(name), "")
                told = _template(node.args[0])
                if code and len(told.replace("…", "")) >= 20:
                    messages[str(code)].add(" ".join(told.split()))
    return messages


def _default_code(node: ast.ClassDef) -> str:
    for part in node.body:
        target = part.targets[0] if isinstance(part, ast.Assign) else getattr(part, "target", None)
        if getattr(target, "id", "") == "default_code" and isinstance(getattr(part, "value", None), ast.Constant):
            return str(part.value.value)  # type: ignore[attr-defined]  # the line above has looked
    return ""


def _template(node: ast.expr) -> str:
    """The text of a literal or an f-string; an empty text if the message is made in another way."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


GENERATED: dict[str, Callable[[], str]] = {
    "reference/sdk.md": sdk,
    "reference/cli.md": command_line,
    "reference/rest.md": rest,
}
"""The place of each page on the site, and what makes it."""
