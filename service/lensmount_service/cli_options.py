"""The flags of the service's commands. Each is a field of the settings, and its help text comes from one table.

Types and defaults come from the settings, and so do the ranges, which pydantic checks when the settings are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings

Command = Callable[..., None]
S = TypeVar("S", bound=BaseSettings)

HELP = {
    "host": "Address to listen on; any address except loopback needs a token.",
    "port": "Port to listen on.",
    "grpc_port": "Port for the Open Inference Protocol over gRPC (extra grpc).",
    "token": "Bearer token that clients must send.",
    "state": "The server's state folder.",
    "backbone": "timm name, NAME@448, or clip.",
    "weights": "FILE (safetensors, .pth), hub, random:SEED; clip: FOLDER or hub:OWNER/NAME.",
    "device": "cpu, cuda, cuda:N or auto.",
    "executor": "auto, eager, openvino, compile, cudagraphs, autotune, or merged: in place.",
    "precision": "Arithmetic: auto, int8 (the trunk), float32, tf32 (GPU), bfloat16, float16.",
    "int8_calibration": "Folder of images for the ranges of int8; default: drawn images.",
    "hot_bytes": "Memory for merged weights; 0 keeps only factors.",
    "dtype": "Resident weights: float32, bfloat16 or float16.",
    "swap": "exact, or subtract: merges without clones in memory, but drifts.",
    "threads": "CPU threads for the model.",
    "max_batch": "Largest number of images in one forward pass.",
    "zoo": "Load the shipped adapters at the first start.",
    "database": "postgresql://USER@HOST/NAME.",
    "blobs": "Stored files: s3://BUCKET/PREFIX, gs://, az://.",
    "with_worker": "Also run a training worker.",
    "ray": "Several engines on Ray Serve, behind one door (extra ray).",
    "replicas": "Engines for --ray.",
    "server": "URL of the server.",
    "nice": "Niceness, 0 to 19; a higher value lets other processes go first.",
    "once": "Exit when no job is left.",
    "parent": "Exit when this process ends.",
    "log_level": "debug, info, warning or error.",
    "log_format": "text or json.",
}
UNSET = {
    "threads": "cores - 1",
    "database": "SQLite in the state folder",
    "blobs": "state folder",
}
"""The default in words, if it is computed or None."""

NO_DEFAULT_SHOWN = frozenset({"host", "state", "with_worker", "once", "ray"})  # the help text says enough
WITHOUT_NO = frozenset({"with_worker", "once", "ray"})  # flags without a --no- form
HIDDEN = frozenset({"parent"})


def with_settings(settings: type[BaseSettings], *names: str, **help_texts: str) -> Callable[[Command], Command]:
    """Show typer a command that takes `**flags` as if its source spelled each of these fields, before its own options.

    `help_texts` replace texts of `HELP` for this command. A flag that the user leaves out arrives as None.
    """

    def decorate(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        texts = {**HELP, **help_texts}
        parameters = [_flag(settings, name, texts[name]) for name in names] + own
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # PEP 362 reads it
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def read_settings(settings: type[S], flags: Mapping[str, Any], **fixed: Any) -> S:
    """The settings with the flags that were given. Raises pydantic's ValidationError."""
    return settings(**fixed, **{name: value for name, value in flags.items() if value is not None})


def in_one_line(error: ValidationError) -> str:
    """What is wrong with each setting, after the name of its flag."""
    return "; ".join(_line(found) for found in error.errors(include_url=False))


def _line(found: Mapping[str, Any]) -> str:
    flag = "".join(f"--{part}: ".replace("_", "-") for part in found["loc"])
    return flag + str(found["msg"]).removeprefix("Value error, ")


def _flag(settings: type[BaseSettings], name: str, text: str) -> inspect.Parameter:
    option = typer.Option(
        *([f"--{name.replace('_', '-')}"] if name in WITHOUT_NO else []),
        help=text,
        show_default=_shown_default(settings, name) or True,
        hidden=name in HIDDEN,
    )
    kind = _type_of(get_type_hints(settings)[name])
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _shown_default(settings: type[BaseSettings], name: str) -> str:
    """ "8000", "512 MiB", "zoo" for a flag that is on, or words. Empty if the help shows no default."""
    default = settings.model_fields[name].default
    if name in UNSET:
        return UNSET[name]
    if name in NO_DEFAULT_SHOWN or default is None:
        return ""
    if isinstance(default, bool):
        return name if default else f"no-{name}"
    if isinstance(default, int) and default and default % 2**20 == 0:
        return f"{default // 2**20} MiB"
    return str(default)


def _type_of(hint: Any) -> Any:
    """str, int, bool or Path. Choices and secrets are read as text, and the settings check them."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    return hint if hint in (str, int, bool, Path) else str
