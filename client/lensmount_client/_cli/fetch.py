"""`lensmount adapters add`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmount_client._cli.options import ServerOptions, jsonable, with_options
from lensmount_client._cli.terminal import print_json, print_line
from lensmount_client._files.paths import read_file


@with_options
def add_adapter(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name on the server.")],
    source: Annotated[
        str, typer.Argument(metavar="URL", help="https://HOST/PATH, hf://OWNER/REPO/PATH, s3://BUCKET/KEY.")
    ],
    digest: Annotated[str, typer.Option("--digest", metavar="SHA256", help="sha256: and the 64 digits of the file.")],
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="The file's signature, *.sig.")
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Let the server fetch an adapter from a host that its operator lists, if the bytes have this digest."""
    signed = None if signature is None else read_file(signature).decode("ascii", "replace").strip()
    with server.client() as client:
        pushed = client.adapters.fetch(name, source, digest, signature=signed)
    if server.json:
        print_json({word: value for word, value in jsonable(pushed).items() if value is not None})
    else:
        print_line(f"{pushed.name}@{pushed.version}  {pushed.digest}")
