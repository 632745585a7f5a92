"""Flags of a command that are made from a table of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from lensmount_adapters.options.option import Option

TYPES: dict[str, Any] = {
    "str": str,
    "regex": str,
    "int": int,
    "float": float,
    "bool": bool,
    "path": Path,
    "names": list[str],
    "window": tuple[float, float],
    "prompts": Path,
}


def with_options(options: Sequence[Option], before: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let typer see a parameter for each option of a command that takes `**options`, in front of parameter `before`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        at = [parameter.name for parameter in parameters].index(before)
        parameters[at:at] = [parameter_of(option) for option in options]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # PEP 362 reads it
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def parameter_of(option: Option) -> inspect.Parameter:
    """The option as a keyword parameter with typer's annotation."""
    kind = TYPES[option.type]
    text = option.help
    default = inspect.Parameter.empty if option.required else option.default
    if default is None:
        kind = kind | None
        text += f"  (default: {option.unset})" if option.unset else ""
    flag = typer.Option(
        option.command_flag,
        help=text,
        metavar=option.metavar,
        min=option.lowest,
        max=option.highest,
        rich_help_panel=option.panel or None,
    )
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, flag]
    )
