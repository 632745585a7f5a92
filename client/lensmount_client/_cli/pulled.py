"""Adapters that a command takes as files, given by their names on a server: downloaded for as long as it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lensmount_client._cli.adapters import resolve
from lensmount_client._cli.options import Address, parameters_of, set_parameters
from lensmount_client._reference import Reference


def from_server(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of a server, from which it takes the `adapters` that are not files."""

    @wraps(command)
    def run(**options: Any) -> None:
        server = Address(**{field.name: options.pop(field.name) for field in fields(Address)})
        with pulled(options, server) as changed:
            command(**changed)

    set_parameters(run, [*inspect.signature(command).parameters.values(), *parameters_of(Address)])
    return run


@contextmanager
def pulled(options: dict[str, Any], server: Address) -> Iterator[dict[str, Any]]:
    """The options of a command, with a file for each `NAME:WEIGHT` of its `adapters` that is none yet.

    A file has the name that was given, so that `--head NAME` means it.
    """
    with TemporaryDirectory() as folder:
        given = [_as_file(text, Path(folder), server) for text in options["adapters"]]
        yield {**options, "adapters": given}


def _as_file(text: str, folder: Path, server: Address) -> str:
    name, weight = split_weight(text)
    if name.endswith(".safetensors") or "/" in name or Path(name).is_file():
        return text
    with server.client() as client:
        version = resolve(client, Reference.parse(name))
        path = client.adapters.pull(version.name, folder / f"{name}.safetensors", version.version).path
    return f"{path}:{weight}"


def split_weight(text: str) -> tuple[str, str]:
    """("malaria:prod", "0.7") of "malaria:prod:0.7"; the weight of "malaria:prod" is 1."""
    name, _, weight = text.rpartition(":")
    try:
        float(weight)
    except ValueError:
        return text, "1"
    return (name, weight) if name else (text, "1")
