"""`lensmount adapters share|unshare` and `lensmount datasets share|unshare`."""

from __future__ import annotations

from typing import Annotated

import typer

from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import print_json, print_line

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name on the server.")]
Public = Annotated[bool, typer.Option("--public", help="List what tenants share as public/NAME.")]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="The public name; by default its own name.")]


@with_options
def share_adapter(name: Name, public_name: As = None, *, server: ServerOptions) -> None:
    """Let all tenants of the server read an adapter as public/NAME. Only its owner can change it."""
    with server.client() as client:
        shared = client.adapters.share(name, public_name)
    _say_shared(server, name, shared)


@with_options
def unshare_adapter(name: Name, *, server: ServerOptions) -> None:
    """Share an adapter no longer."""
    with server.client() as client:
        client.adapters.unshare(name)
    _say_unshared(server, name)


@with_options
def share_dataset(name: Name, public_name: As = None, *, server: ServerOptions) -> None:
    """Let all tenants of the server read a dataset, and train on it, as public/NAME. Only its owner can change it."""
    with server.client() as client:
        shared = client.datasets.share(name, public_name)
    _say_shared(server, name, shared)


@with_options
def unshare_dataset(name: Name, *, server: ServerOptions) -> None:
    """Share a dataset no longer. A job that uses it continues."""
    with server.client() as client:
        client.datasets.unshare(name)
    _say_unshared(server, name)


def _say_shared(server: ServerOptions, name: str, shared: str) -> None:
    if server.json:
        print_json({"name": name, "public_name": shared})
    else:
        print_line(f"{name} is shared as {shared}")


def _say_unshared(server: ServerOptions, name: str) -> None:
    if server.json:
        print_json({"unshared": name})
    else:
        print_line(f"{name} is shared no longer")
