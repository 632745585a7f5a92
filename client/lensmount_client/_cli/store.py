"""`lensmount store ...`: the commands come from the server's package (lazy.py)."""

from __future__ import annotations

import typer

from lensmount_client._cli.lazy import LazySubgroup

app = typer.Typer(name="store", cls=LazySubgroup, no_args_is_help=True)
