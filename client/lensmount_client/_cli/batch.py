"""`lensmount batch ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmount_client import _errors as e
from lensmount_client._cli.options import ServerOptions, jsonable, with_options
from lensmount_client._cli.terminal import plural, print_error, print_json, print_line, print_note
from lensmount_client._resources.many import adapter_list

FAILED = 1
INTERRUPTED = 130


@with_options
def batch(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES",
            help='Folders (all images in them), files, patterns ("*.png"), or a dataset on the server.',
        ),
    ],
    adapter: Annotated[
        str,
        typer.Option("--adapter", "-a", metavar="NAME[,NAME]", help="name, name@3, name:alias; several with commas."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write: .parquet, .csv or .jsonl.")
    ],
    *,
    server: ServerOptions,
) -> None:
    """Label an archive, while nobody else asks the server.

    A command that was stopped or killed and is repeated resumes where it was: what is done is in FILE.partial. The next
    adapter over the same images takes a fraction of the time. An image that cannot be read has a row with its error.

    Exit status: 0 all labelled, 1 some images failed, 2 wrong usage, 130 stopped with Ctrl-C.
    """
    adapters = adapter_list([name.strip() for name in adapter.split(",")])
    try:
        with server.client() as client:
            result = client.batch(list(images), adapters, out, progress=True)
    except e.CannotWrite as error:
        print_error(str(error))
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        print_note(f"Stopped. Repeat the command to resume; what is done is in {out}.partial")
        raise typer.Exit(INTERRUPTED) from None
    if server.json:
        print_json(jsonable(result) | {"out": str(result.out)})
    else:
        resumed = f", {plural(result.resumed, 'image')} of an earlier run" if result.resumed else ""
        print_line(f"{result}{resumed}")
    if result.failed:
        raise typer.Exit(FAILED)
