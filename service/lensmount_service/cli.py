"""`lensmount serve`, `lensmount worker`, `lensmount calibrate`, `lensmount gc`."""

from __future__ import annotations

import gc as cycles
import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; any but loopback needs a token.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token that clients must send.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for uploaded adapters and the registry.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="timm name, NAME@448, or clip.", show_default="tf_efficientnet_lite0")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="FILE.safetensors, hub, random:SEED; clip: FOLDER or hub:OWNER/NAME.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto.", show_default="auto")] = None,
    executor: Annotated[
        str | None,
        typer.Option(help="auto, eager, openvino, compile, cudagraphs; merged: in place.", show_default="auto"),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, float32, bfloat16 or float16 of the arithmetic.", show_default="auto"),
    ] = None,
    hot_bytes: Annotated[
        int | None, typer.Option(help="Memory for merged weights; 0 keeps factors only.", show_default="512 MiB")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of the resident weights: float32, bfloat16, float16.", show_default="float32")
    ] = None,
    swap: Annotated[
        str | None,
        typer.Option(help="exact, or subtract: merged, no clones in memory, but it drifts.", show_default="exact"),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.", show_default="cores - 1")] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Images in one forward pass at most.", show_default="16")
    ] = None,
    zoo: Annotated[
        bool | None, typer.Option(help="Load the shipped adapters at first start.", show_default="zoo")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql://USER@HOST/NAME.", show_default="SQLite in the state folder")
    ] = None,
    blobs: Annotated[
        str | None, typer.Option(help="Adapter files: s3://BUCKET/PREFIX, gs://, az://.", show_default="state folder")
    ] = None,
    with_worker: Annotated[
        bool | None, typer.Option("--with-worker", help="Run a training worker beside the server.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
) -> None:
    """Serve adapters over HTTP from one resident backbone.

    Every option is also a variable, LENSMOUNT_PORT for --port and so on.

    Ctrl-C or SIGTERM finishes what was accepted and stops.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    cycles.disable()  # half a million objects stay: looking through them takes an eighth of importing
    try:
        from lensmount_adapters.errors import LensmountError
        from lensmount_service import startup
        from lensmount_service.errors import ServiceError
        from lensmount_service.settings import Settings

        settings = Settings(**given)
    except ValidationError as error:
        _stop(_wrong(error))
    tell = startup.teller(settings)
    try:
        with startup.port_taken(settings) as bound, startup.ctrl_c_ends_at_once():
            tell(f"Lensmount starts at {startup.own_url(*bound.getsockname()[:2])}. Loading PyTorch ...")
            from lensmount_service import logs, server  # takes seconds: only now

            logs.configure(settings)
            server.serve(settings, bound=bound, tell=tell)
    except (LensmountError, ServiceError) as error:
        _stop(str(error))
    except OSError as error:
        _stop(startup.cannot_serve(settings, error))


def worker(
    server: Annotated[str | None, typer.Option(help="URL of the server.", show_default="http://127.0.0.1:8000")] = None,
    token: Annotated[str | None, typer.Option(help="The server's bearer token.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for work files, and for SQLite the server's own.")] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql://USER@HOST/NAME.", show_default="SQLite in the state folder")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="The server's.", show_default="tf_efficientnet_lite0")] = None,
    weights: Annotated[
        str | None, typer.Option(help="FILE.safetensors, hub, random:SEED; clip: FOLDER or hub:OWNER/NAME.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto.", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for training.", show_default="cores - 1")] = None,
    nice: Annotated[int | None, typer.Option(help="0 to 19: how far others go first.", show_default="10")] = None,
    once: Annotated[bool | None, typer.Option("--once", help="End when no job is left.")] = None,
    parent: Annotated[int | None, typer.Option(help="End with this process.", hidden=True)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
) -> None:
    """Train the jobs of a server, in a process of its own; several may run, on one or many machines.

    Every option is also a variable, LENSMOUNT_SERVER for --server and so on (LENSMOUNT_WORKER_THREADS for --threads).

    Ctrl-C or SIGTERM gives the running job back; another worker goes on from its last whole epoch.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    try:
        from lensmount_service.worker.settings import WorkerSettings

        settings = WorkerSettings(**given)
    except ValidationError as error:
        _stop(_wrong(error), "worker")
    from lensmount_adapters.errors import LensmountError
    from lensmount_service import logs
    from lensmount_service.errors import ServiceError
    from lensmount_service.worker import worker as working

    logs.configure(settings)
    try:
        working.work(settings)
    except ServiceError as error:
        _stop(str(error), "worker", 78 if error.retry_after_s is None else 75)
    except LensmountError as error:
        _stop(str(error), "worker")


def calibrate(
    state: Annotated[Path | None, typer.Option(help="The server's state folder.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="timm name, NAME@448, or clip.", show_default="tf_efficientnet_lite0")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="FILE.safetensors, hub, random:SEED; clip: FOLDER or hub:OWNER/NAME.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto.", show_default="auto")] = None,
    executor: Annotated[
        str | None, typer.Option(help="As of `lensmount serve`; auto chooses anew.", show_default="auto")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="As of `lensmount serve`.", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.", show_default="cores - 1")] = None,
    max_batch: Annotated[int | None, typer.Option(help="As of `lensmount serve`.", show_default="16")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure on an idle machine what the ways to compute a batch cost; `lensmount serve` uses it from then on.

    A server measures what it does not know when it first needs it. Run this after a change of hardware or libraries.
    """
    given = {name: value for name, value in locals().items() if value is not None and name != "json"}
    try:
        from lensmount_adapters.errors import LensmountError
        from lensmount_service import logs, maintenance
        from lensmount_service.errors import ServiceError
        from lensmount_service.settings import Settings

        settings = Settings(log_level="warning", **given)
    except ValidationError as error:
        _stop(_wrong(error), "calibrate")
    logs.configure(settings)
    try:
        found = maintenance.calibrate(settings)
    except (LensmountError, ServiceError) as error:
        _stop(str(error), "calibrate")
    if json:
        lines = {name: {"fixed_s": line.fixed, "per_image_s": line.per_image} for name, line in found.lines.items()}
        typer.echo(json_format.dumps({"engine": found.engine, "branch": lines}))
        return
    typer.echo(", ".join(f"{name} {value}" for name, value in found.engine.items()))
    for name, line in sorted(found.lines.items()):
        typer.echo(f"{name}: 1 image {1e3 * line(1):.1f} ms, 16 images {1e3 * line(16):.1f} ms")


def gc(
    state: Annotated[Path | None, typer.Option(help="The server's state folder.")] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql://USER@HOST/NAME.", show_default="SQLite in the state folder")
    ] = None,
    blobs: Annotated[
        str | None, typer.Option(help="The server's: s3://BUCKET/PREFIX, gs://, az://.", show_default="state folder")
    ] = None,
    older_than: Annotated[
        float, typer.Option(min=0, help="Seconds since a file was last written to; 0 only while nothing runs.")
    ] = 3600,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove the files that nothing points at, such as those of uploads and jobs that were cut short."""
    given: dict[str, Any] = {
        name: value
        for name, value in {"state": state, "database": database, "blobs": blobs}.items()
        if value is not None
    }
    try:
        from lensmount_service import logs, maintenance
        from lensmount_service.errors import ServiceError
        from lensmount_service.settings import Settings

        settings = Settings(**given)
    except ValidationError as error:
        _stop(_wrong(error), "gc")
    logs.configure(settings)
    try:
        removed = asdict(maintenance.collect_garbage(settings, older_than))
    except ServiceError as error:
        _stop(str(error), "gc")
    except OSError as error:
        _stop(f"cannot remove {error.filename}: {error.strerror}", "gc")
    if json:
        typer.echo(json_format.dumps(removed))
    else:
        typer.echo("Removed " + ", ".join(f"{count} of {kind}" for kind, count in removed.items()))


def _wrong(error: ValidationError) -> str:
    return "; ".join(_plain(one["msg"], one["loc"]) for one in error.errors(include_url=False))


def _plain(message: str, where: tuple[int | str, ...]) -> str:
    field = "".join(f"--{part}: ".replace("_", "-") for part in where)
    return field + message.removeprefix("Value error, ")


def _stop(message: str, command: str = "serve", code: int = 78) -> NoReturn:
    """EX_CONFIG (78): a supervisor should not try the same again at once. EX_TEMPFAIL (75): it may."""
    print(f"lensmount {command}: {message}", file=sys.stderr)  # noqa: T201  # the command's own last word
    raise typer.Exit(code)
