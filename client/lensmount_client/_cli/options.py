"""Options that commands share: dataclasses whose fields are flags."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from datetime import datetime
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from lensmount_client._client import Client
from lensmount_client._http.settings import DEFAULT_URL

PANEL = "Server"


@dataclass(frozen=True)
class Address:
    """The flags that say which server a command talks to."""

    url: Annotated[
        str,
        typer.Option(
            envvar="LENSMOUNT_URL",
            rich_help_panel=PANEL,
            metavar="URL",
            help="The address of the server: host:port or a URL.",
        ),
    ] = DEFAULT_URL
    token: Annotated[
        str | None,
        typer.Option(
            envvar="LENSMOUNT_TOKEN", rich_help_panel=PANEL, metavar="TOKEN", help="Its token, if it asks for one."
        ),
    ] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", rich_help_panel=PANEL, help="Send the token over http:// to another machine.")
    ] = False

    def client(self, retries: int = 3) -> Client:
        return Client(self.url, token=self.token, insecure=self.insecure, retries=retries)

    @property
    def url_flag(self) -> str:
        """` --url URL` for a command line that a user may copy; empty if that command finds the server by itself."""
        known = self.url in (DEFAULT_URL, os.environ.get("LENSMOUNT_URL"))
        return "" if known else f" --url {self.url}"


@dataclass(frozen=True)
class ServerOptions(Address):
    """The flags of every command of the client: which server, and in which form to print its response."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")] = False


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Present a command to typer as if it listed each field of its dataclass parameters as a parameter.

        @app.command("list")
        @with_options
        def list_adapters(server: ServerOptions) -> None:
            with server.client() as client: ...

    A field is `name: Annotated[type, typer.Option(...)] = default`, like any parameter of a typer command.
    """
    hints = get_type_hints(command, include_extras=True)
    classes: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in classes:
            parameters.extend(parameters_of(classes[parameter.name]))
        else:
            parameters.append(keyword(parameter, hints[parameter.name]))

    @wraps(command)
    def run(**values: Any) -> None:
        for name, options_class in classes.items():
            own = {field.name: values.pop(field.name) for field in fields(options_class)}
            values[name] = options_class(**own)
        command(**values)

    set_parameters(run, parameters)
    return run


def keyword(parameter: inspect.Parameter, hint: Any) -> inspect.Parameter:
    """The parameter with its resolved type; keyword-only, so that order and defaults are free."""
    return parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY)


def set_parameters(command: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> None:
    """Let `inspect.signature`, which typer reads, find these parameters on the command."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # PEP 362 reads it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def jsonable(result: Any) -> dict[str, Any]:
    """A result of the SDK as plain JSON values."""
    return {name: _plain(value) for name, value in asdict(result).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def parameters_of(options_class: Any) -> Iterator[inspect.Parameter]:
    """The fields of a dataclass of flags as parameters that typer reads."""
    hints = get_type_hints(options_class, include_extras=True)
    for field in fields(options_class):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )
