"""The flags of `lensmount train`, made from the table of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from lensmount_adapters.training.option import Option

TYPES: dict[str, Any] = {
    "str": str,
    "regex": str,
    "int": int,
    "float": float,
    "bool": bool,
    "path": Path,
    "window": tuple[float, float],
    "prompts": Path,
}


def with_options(options: Sequence[Option], before: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Show typer a command that takes `**options` as if its source spelled each of them, before its own `before`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        at = [parameter.name for parameter in own].index(before)
        parameters = own[:at] + [parameter_of(option) for option in options] + own[at:]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # PEP 362 reads it
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def parameter_of(option: Option) -> inspect.Parameter:
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
