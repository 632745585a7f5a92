"""The flags of `lensmount jobs submit`, made from the table of options."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import typer

from lensmount_client._errors import InvalidInput
from lensmount_client._types.job_options import JobOptions
from lensmount_client._types.training_options import OPTIONS, Option

TYPES: dict[str, Any] = {
    "str": str,
    "regex": str,
    "int": int,
    "float": float,
    "bool": bool,
    "window": tuple[float, float],
    "prompts": Path,
}


def with_job_options(before: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Show typer a command that takes `**said` as if its source spelled every option, before its own `before`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        at = [parameter.name for parameter in own].index(before)
        parameters = own[:at] + [_parameter(option) for option in OPTIONS] + own[at:]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # PEP 362 reads it
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def options_of(said: Mapping[str, Any]) -> JobOptions:
    """What the command line says, as `jobs.submit` takes it; flags that are not given stay the server's choice."""
    options = {name: _plain(value) for name, value in said.items()}
    if said["prompts"] is not None:
        options["prompts"] = _table(said["prompts"])
    return cast(JobOptions, options)


def _parameter(option: Option) -> inspect.Parameter:
    kind = TYPES[option.type]
    metavar = option.metavar
    if option.aliases:  # short words are taken as well, so the choices are only shown
        metavar = f"<{'|'.join(map(str, option.choices))}>"
    elif option.choices and option.type == "str":
        kind = _words_of(option)
    text = option.help + (f" (default: {option.shown_default})" if option.shown_default else "")
    flag = typer.Option(
        option.command_flag,
        help=text,
        metavar=metavar,
        min=option.lowest,
        max=option.highest,  # the server's own limits are judged by the server
        rich_help_panel=option.panel,
        show_default=False,
    )
    is_flag = option.type == "bool"
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if is_flag else None,
        annotation=Annotated[kind if is_flag else kind | None, flag],
    )


def _words_of(option: Option) -> Any:
    words = [str(choice) for choice in option.choices]
    return StrEnum(option.name, [(word, word) for word in words])  # typer reads choices from it


def _plain(value: Any) -> Any:
    if value is False:
        return None
    return str(value) if isinstance(value, StrEnum) else value


def _table(path: Path) -> dict[str, Any]:
    """The TOML file of --prompts. Raises InvalidInput."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"--prompts {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--prompts {path}: found no TOML ({error}). Fix: see docs/training.md") from error
