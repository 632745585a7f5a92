"""`lensmount explain ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import print_json, print_note, print_table
from lensmount_client._show.table import Table


@with_options
def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="One image file.")],
    adapter: Annotated[
        str, typer.Option("--adapter", "-a", metavar="NAME", help="name, name@3, name@sha256:... or name:alias.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The image to write: why.png.")],
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The label to explain. Default: the one with the best score.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD", help="cam (one pass), layercam (a finer grid) or occlusion (every backbone; 50 passes)."
        ),
    ] = "cam",
    *,
    server: ServerOptions,
) -> None:
    """Colour what speaks for a label in an image.

    Colours go from clear through yellow to red; docs/api.md describes the methods.
    """
    draw_explanation(image, adapter, out, server, label, method)


def draw_explanation(
    image: str, adapter: str, out: Path, server: ServerOptions, label: str | None = None, method: str = "cam"
) -> None:
    """Write the image with the values over it, and print the label with its score."""
    with server.client() as client:
        found = client.explain(image, adapter, label=label, method=method)
    found.save(out)
    if server.json:
        print_json(
            {
                "file": image,
                "explanation": str(out),
                "label": found.label,
                "score": found.score,
                "method": found.method,
                "grid": found.grid,
                "values": found.values,
            }
        )
        return
    table = Table("file", "label", "score")
    table.add_row(image, found.label, f"{found.score:.1%}")
    print_table(table)
    print_note(f"Wrote {out}: what speaks for {found.label}, in {found.grid[0]} x {found.grid[1]} cells")
