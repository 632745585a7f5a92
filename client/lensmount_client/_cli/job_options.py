"""The flags of `lensmount jobs submit`, made from the table of options."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import typer

from lensmount_client._cli.options import keyword, set_parameters
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
    """Present a command that takes `**options` to typer as if it listed every option, before its parameter `before`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            keyword(parameter, hints[parameter.name])
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        at = [parameter.name for parameter in own].index(before)
        set_parameters(command, own[:at] + [_parameter(option) for option in OPTIONS] + own[at:])
        return command

    return decorate


def options_of(flags: Mapping[str, Any]) -> JobOptions:
    """The flags of the command line as `jobs.submit` takes them. Omitted flags are None: the server's default.

    Raises InvalidInput, before a folder is uploaded for the job.
    """
    options = {name: _plain(value) for name, value in flags.items()}
    if options["canary"] is not None and options["alias"] is None:
        raise InvalidInput(
            "found --canary without --alias, expected both. Fix: --alias prod, the one to roll out under"
        )
    if flags["prompts"] is not None:
        options["prompts"] = _table(flags["prompts"])
    return cast(JobOptions, options)


def _parameter(option: Option) -> inspect.Parameter:
    kind = TYPES[option.type]
    metavar = option.metavar
    if option.aliases:  # aliases are accepted too, so the choices are only shown
        metavar = f"<{'|'.join(map(str, option.choices))}>"
    elif option.choices and option.type == "str":
        kind = _choices_of(option)
    text = option.help + (f" (default: {option.shown_default})" if option.shown_default else "")
    flag = typer.Option(
        option.command_flag,
        help=text,
        metavar=metavar,
        min=option.lowest,
        max=option.highest,  # the server checks its own, stricter limits
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


def _choices_of(option: Option) -> Any:
    names = [str(choice) for choice in option.choices]
    return StrEnum(option.name, [(name, name) for name in names])  # typer reads the choices from it


def _plain(value: Any) -> Any:
    if value is False:
        return None
    return str(value) if isinstance(value, StrEnum) else value


def _table(path: Path) -> dict[str, Any]:
    """Read the TOML file of --prompts. Raises InvalidInput."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"--prompts {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"--prompts {path}: found text that is not TOML ({error}). Fix: see docs/training.md"
        ) from error
