"""`lensmount keys ...` and `lensmount adapters sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmount_client._cli.terminal import print_line, print_note
from lensmount_client._errors import CannotWrite
from lensmount_client._files.paths import read_file
from lensmount_client._files.signing import HEADER, create_key, public_line_of, sign_file

app = typer.Typer(name="keys", no_args_is_help=True)

Key = Annotated[Path, typer.Option("--key", metavar="KEY", help="The private key that lensmount keys create wrote.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; the server shows it as signed_by.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write the private key: NAME.key by default.")
    ] = None,
) -> None:
    """Make a key to sign adapters with. The private key is a file that only you may read; the public one is printed."""
    path = Path(f"{name}.key") if out is None else out
    print_line(create_key(path, name))
    print_note(f"{path} is the private key. The line above is the public one: the operator of a server adds it to the")
    print_note("file that LENSMOUNT_TRUSTED_KEYS names.")


@app.command()
def show(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="A private key.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default that of the file.")] = None,
) -> None:
    """Print the public key of a private one."""
    print_line(public_line_of(key, key.stem if name is None else name))


def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An adapter file, *.safetensors.")], key: Key
) -> None:
    """Sign an adapter file. The signature is printed and written next to it as FILE.sig, which push sends along."""
    signature = sign_file(read_file(file), key)
    target = file.with_name(f"{file.name}.sig")
    try:
        target.write_text(signature + "\n", encoding="ascii")
    except OSError as error:
        raise CannotWrite(f"{target}: {error.strerror}. Fix: copy the file to a folder where you may write") from error
    print_line(signature)
    print_note(f"wrote {target}; the header is {HEADER}")
