"""`lensmount serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; any but loopback needs a token.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token that clients must send.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for uploaded adapters and the registry.")] = None,
    backbone: Annotated[str | None, typer.Option(help="timm name.", show_default="tf_efficientnet_lite0")] = None,
    weights: Annotated[str | None, typer.Option(help="FILE.safetensors, hub, or random:SEED.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto.", show_default="auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="float32")] = None,
    swap: Annotated[
        str | None, typer.Option(help="exact, or subtract: no clones in memory, but it drifts.", show_default="exact")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.", show_default="cores - 1")] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Images in one forward pass at most.", show_default="16")
    ] = None,
    zoo: Annotated[
        bool | None, typer.Option(help="Load the shipped adapters at first start.", show_default="zoo")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
) -> None:
    """Serve adapters over HTTP from one resident backbone.

    Every option is also a variable, LENSMOUNT_PORT for --port and so on.

    Ctrl-C or SIGTERM finishes what was accepted and stops.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    try:
        from lensmount_adapters.errors import LensmountError
        from lensmount_service import logs, server
        from lensmount_service.errors import ServiceError
        from lensmount_service.settings import Settings

        settings = Settings(**given)
    except ValidationError as error:
        _stop("; ".join(_plain(one["msg"], one["loc"]) for one in error.errors(include_url=False)))
    logs.configure(settings)
    try:
        server.serve(settings)
    except (LensmountError, ServiceError) as error:
        _stop(str(error))
    except OSError as error:
        _stop(
            f"cannot serve at {settings.host}:{settings.port}: {error.strerror or error}. Cure: choose another --port"
        )


def _plain(message: str, where: tuple[int | str, ...]) -> str:
    field = "".join(f"--{part}: ".replace("_", "-") for part in where)
    return field + message.removeprefix("Value error, ")


def _stop(message: str) -> None:
    """EX_CONFIG: a supervisor should not try the same again at once."""
    print(f"lensmount serve: {message}", file=sys.stderr)  # noqa: T201  # the command's own last word
    raise typer.Exit(78)
