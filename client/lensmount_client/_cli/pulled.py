"""Adapters that a command takes as files, given by their names on a server: downloaded for as long as it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lensmount_client._cli.adapters import resolve
from lensmount_client._client import Client
from lensmount_client._reference import Reference


@contextmanager
def pulled(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The options of a command, with a file for each `NAME:WEIGHT` of its `adapters` that is none yet.

    The server is that of LENSMOUNT_URL. A file has the name that was given, so that `--head NAME` means it.
    """
    with TemporaryDirectory() as folder:
        given = [_as_file(text, Path(folder)) for text in options["adapters"]]
        yield {**options, "adapters": given}


def _as_file(text: str, folder: Path) -> str:
    name, weight = split_weight(text)
    if name.endswith(".safetensors") or "/" in name or Path(name).is_file():
        return text
    with Client() as client:
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
