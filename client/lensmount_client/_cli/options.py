"""The options that every command that talks to a server has, and the client they make."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, TypeAlias

import typer

from lensmount_client._client import Client
from lensmount_client._http.settings import DEFAULT_URL

PANEL = "Server"

Url: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="LENSMOUNT_URL", rich_help_panel=PANEL, metavar="URL", help="Where the server is: host:port or a URL."
    ),
]
Token: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="LENSMOUNT_TOKEN", rich_help_panel=PANEL, metavar="TOKEN", help="Its token, if it asks for one."
    ),
]
Insecure: TypeAlias = Annotated[
    bool,
    typer.Option("--insecure", rich_help_panel=PANEL, help="Send the token over http:// to another machine."),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]

__all__ = ["DEFAULT_URL", "Insecure", "Json", "Token", "Url", "jsonable", "open_client"]


def open_client(url: str, token: str | None, insecure: bool, retries: int = 3) -> Client:
    return Client(url, token=token, insecure=insecure, retries=retries)


def jsonable(result: Any) -> dict[str, Any]:
    """A result of the SDK as plain JSON values."""
    document = asdict(result)
    if "created_at" in document:
        document["created_at"] = document["created_at"].isoformat()
    return document
