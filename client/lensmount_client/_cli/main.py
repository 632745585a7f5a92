"""The `lensmount` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from lensmount_client._cli.extras import is_ours, needs
from lensmount_client._cli.lazy import LazyGroup
from lensmount_client._cli.streams import open_streams, write_out
from lensmount_client._cli.terminal import described, print_error
from lensmount_client._errors import LensmountError, LocalError
from lensmount_client._version import __version__

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Many small vision tasks on one frozen backbone.",
    epilog="Start with `lensmount serve`, then `lensmount predict cell.png --adapter malaria`. "
    "To train on your own images: `lensmount serve --with-worker`, then `lensmount teach DIR --name NAME`.",
)


@app.callback()
def lensmount(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda asked: _print_version(asked), help="Print the version."
        ),
    ] = False,
) -> None:
    """Many small vision tasks on one frozen backbone."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Raises SystemExit with 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C."""
    open_streams()
    try:
        try:
            get_command(app).main(args=arguments, prog_name="lensmount")
        finally:
            write_out()
    except LensmountError as error:
        print_error(described(error))
        sys.exit(2 if isinstance(error, LocalError) else 1)
    except ModuleNotFoundError as error:  # of a command of the client; lazy.py handles the others
        if is_ours(error):
            raise
        print_error(needs(str(error.name)))
        sys.exit(2)
    except BrokenPipeError:  # the reader of the output has closed it, as with `| head`
        sys.exit(1)
    except OSError as error:
        print_error(f"{error.filename or 'the output'}: {error.strerror or error}")
        sys.exit(1)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lensmount {__version__}")
        raise typer.Exit
