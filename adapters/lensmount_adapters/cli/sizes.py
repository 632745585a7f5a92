"""`lensmount sizes`: count the numbers that adapters of a backbone would store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmount_adapters.cli.terminal import fail


def sizes(
    backbone: Annotated[str, typer.Argument(help="The network: any timm name, such as resnet34.")],
    rank: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A rank of the deltas; can be given several times.  (default: 4 8 16)"),
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Regular expression for the layers to count.  (default: by backbone)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the table to this file (.md), or draw it (.png, .svg).", dir_okay=False)
    ] = None,
) -> None:
    """Count the numbers that LoRA and its CP/Tucker form store per layer of a backbone, with break-even ranks."""
    if out is not None and out.suffix in (".png", ".svg"):
        import matplotlib  # noqa: F401  # if it is missing, say so before the seconds that torch takes
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.report.size_table import size_table

    try:
        table = size_table(backbone, rank or (4, 8, 16), targets)
        typer.echo(table.markdown(), nl=False)
        if out is not None:
            typer.echo(f"\nWrote {table.write(out)}")
    except LensmountError as error:
        fail(error, as_json=False)
