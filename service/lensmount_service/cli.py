"""`lensmount serve`, `worker`, `calibrate`, `gc`, `backup`, `restore`, `store check` and `store recover`."""

from __future__ import annotations

import gc as cycles
import json as json_format
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from lensmount_service.cli_options import in_one_line, read_settings, with_settings
from lensmount_service.settings import Settings
from lensmount_service.worker.settings import WorkerSettings

S = TypeVar("S", bound=BaseSettings)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@with_settings(
    Settings,
    *("host", "port", "grpc_port", "token", "state", "backbone", "weights", "device", "executor", "precision"),
    *("hot_bytes", "dtype", "swap", "threads", "max_batch", "zoo", "database", "blobs", "with_worker"),
    "int8_calibration",
    *("ray", "replicas", "log_level", "log_format"),
    state="Folder for uploaded adapters and the registry.",
)
def serve(**flags: Any) -> None:
    """Serve adapters over HTTP from one resident backbone.

    Every option is also an environment variable, such as LENSMOUNT_PORT for --port.

    Ctrl-C or SIGTERM finishes accepted requests and stops.
    """
    cycles.disable()  # half a million objects stay: scanning them takes an eighth of the import time
    from lensmount_adapters.errors import LensmountError
    from lensmount_service import startup
    from lensmount_service.errors import ServiceError

    settings = _read(Settings, flags, "serve")
    _check_ray(settings)
    tell = startup.teller(settings)
    try:
        with startup.port_taken(settings) as bound, startup.ctrl_c_ends_at_once():
            tell(f"Lensmount starts at {startup.own_url(*bound.getsockname()[:2])}. Loading PyTorch ...")
            _import_timm()
            from lensmount_service import logs, server  # takes seconds, so it is imported only now

            logs.configure(settings)
            if settings.ray:
                from lensmount_service.ray import serving  # imports Ray

                serving.serve(settings, bound, server.listen, tell)
            else:
                server.serve(settings, bound=bound, tell=tell)
    except ServiceError as error:
        _stop(str(error), code=75 if error.code == "device_lost" else 78)
    except LensmountError as error:
        _stop(str(error))
    except OSError as error:
        _stop(startup.cannot_serve(settings, error))


@with_settings(
    WorkerSettings,
    *("server", "token", "state", "database", "backbone", "weights", "device", "threads", "nice", "once", "parent"),
    *("log_level", "log_format"),
    token="The server's bearer token.",
    state="Folder for work files; with SQLite, the server's state folder.",
    backbone="Must match the server's.",
    threads="CPU threads for training.",
)
def worker(**flags: Any) -> None:
    """Train the jobs of a server in a separate process. Several workers may run, on one or many machines.

    Every option is also an environment variable, such as LENSMOUNT_SERVER for --server. (LENSMOUNT_WORKER_THREADS is
    for --threads.)

    Ctrl-C or SIGTERM returns the running job; another worker resumes it from its last complete epoch.
    """
    settings = _read(WorkerSettings, flags, "worker")
    _import_timm()
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


@with_settings(
    Settings,
    *("state", "backbone", "weights", "device", "executor", "precision", "int8_calibration", "threads", "max_batch"),
    executor="Same as `lensmount serve`; auto chooses again.",
    precision="Same as `lensmount serve`.",
    max_batch="Same as `lensmount serve`.",
)
def calibrate(json: Json = False, **flags: Any) -> None:
    """Measure the cost of each way to compute a batch. `lensmount serve` then uses the figures.

    Run this on an idle machine after a change of hardware or libraries. A server measures missing figures on demand.
    """
    settings = _read(Settings, flags, "calibrate", log_level="warning")
    _import_timm()
    from lensmount_adapters.errors import LensmountError
    from lensmount_service import logs, maintenance
    from lensmount_service.errors import ServiceError

    logs.configure(settings)
    try:
        calibration = maintenance.calibrate(settings)
    except (LensmountError, ServiceError) as error:
        _stop(str(error), "calibrate")
    costs = calibration.lines
    if json:
        branch = {name: {"fixed_s": cost.fixed, "per_image_s": cost.per_image} for name, cost in costs.items()}
        typer.echo(json_format.dumps({"engine": calibration.engine, "branch": branch}))
        return
    typer.echo(", ".join(f"{name} {value}" for name, value in calibration.engine.items()))
    for name, cost in sorted(costs.items()):
        typer.echo(f"{name}: 1 image {1e3 * cost(1):.1f} ms, 16 images {1e3 * cost(16):.1f} ms")


@with_settings(Settings, "state", "database", "blobs", blobs="The server's: s3://BUCKET/PREFIX, gs://, az://.")
def gc(
    older_than: Annotated[
        float, typer.Option(min=0, help="Only files last written this many seconds ago; use 0 only while nothing runs.")
    ] = 3600,
    json: Json = False,
    **flags: Any,
) -> None:
    """Remove files that nothing points at, such as those of interrupted uploads and jobs."""
    settings = _read(Settings, flags, "gc")
    _import_timm()
    from lensmount_service import logs, maintenance
    from lensmount_service.errors import ServiceError

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


@with_settings(Settings, "state", "database", "blobs")
def backup(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for backups: new, empty, or with earlier ones.")],
    keep: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Afterwards keep only the newest N backups in OUT.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read files that OUT already has, and replace damaged ones.")
    ] = False,
    json: Json = False,
    **flags: Any,
) -> None:
    """Copy a server's state into a folder, while the server runs.

    Files that OUT already has are not copied again.

    With PostgreSQL, OUT has the files. Back up the database with pg_dump.

    Exit status: 0 done, 1 done without files that are missing or damaged, 78 refused.
    """
    settings = _read(Settings, flags, "backup")
    with _sentences(settings, "backup") as maintenance:
        made = maintenance.make_backup(settings, out, keep, verify=verify)
    from lensmount_service.backup.told import described_backup, json_of_backup

    typer.echo(json_format.dumps(json_of_backup(made)) if json else described_backup(made, out))
    if made.manifest.absent:
        raise typer.Exit(1)


@with_settings(Settings, "state", "blobs", state="The folder to restore into: a new or empty one.")
def restore(
    backups: Annotated[Path, typer.Argument(metavar="FROM", help="The folder that you gave to `lensmount backup`.")],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="The newest backup whose time begins so, such as 20261231T23; by default all."
        ),
    ] = None,
    list_backups: Annotated[
        bool, typer.Option("--list", help="Show the backups in FROM, and restore nothing.")
    ] = False,
    json: Json = False,
    **flags: Any,
) -> None:
    """Put a backup into an empty state folder: all of it, or nothing if a file of it is damaged.

    Tokens that were revoked since the backup are valid again: revoke them again.
    """
    settings = _read(Settings, flags, "restore")
    from lensmount_service.backup.told import described_restore, json_of_restore, listed

    with _sentences(settings, "restore") as maintenance:
        if list_backups:
            typer.echo(listed(backups, as_json=json))
            return
        restored = maintenance.restore(settings, backups, at)
    typer.echo(json_format.dumps(json_of_restore(restored)) if json else described_restore(restored, settings.state))


@with_settings(Settings, "state", "database", "blobs")
def check(json: Json = False, **flags: Any) -> None:
    """List what is damaged, missing or left over. Changes nothing.

    It reads the database and every stored file. A server may run meanwhile.

    Exit status: 0 all is well, 1 there are findings, 78 the state cannot be read.
    """
    settings = _read(Settings, flags, "store check")
    with _sentences(settings, "store check") as maintenance:
        checked = maintenance.check(settings)
    from lensmount_service.repair.told import described_check

    typer.echo(json_format.dumps({"ok": not checked.findings, **asdict(checked)}) if json else described_check(checked))
    if checked.findings:
        raise typer.Exit(1)


@with_settings(Settings, "state", "database", "blobs")
def recover(
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="Publish adapters and datasets that the database does not know, for the tenant `default`. Adapters "
            "get the name in their file, or recovered-DIGEST if it is taken.",
        ),
    ] = False,
    json: Json = False,
    **flags: Any,
) -> None:
    """Mend a damaged database, and set damaged files apart. Stop the server first.

    What is replaced or set apart is kept in the folder `damaged` of the state.
    """
    settings = _read(Settings, flags, "store recover")
    with _sentences(settings, "store recover") as maintenance:
        recovered = maintenance.recover(settings, adopt=adopt)
    from lensmount_service.repair.told import described_recovery

    typer.echo(json_format.dumps(asdict(recovered)) if json else described_recovery(recovered))


@contextmanager
def _sentences(settings: Settings, command: str) -> Iterator[ModuleType]:
    """Import what the command needs, and end it with one line instead of a traceback."""
    _import_timm()
    from lensmount_service import logs, maintenance  # takes seconds, so it is imported only now
    from lensmount_service.errors import ServiceError

    logs.configure(settings)
    try:
        yield maintenance
    except ServiceError as error:
        _stop(str(error), command)
    except OSError as error:
        _stop(f"cannot use {error.filename or 'a file'}: {error.strerror}. Fix: make it readable and writable", command)


def _check_ray(settings: Settings) -> None:
    """Ends the command if Ray is needed and not installed, or if the options do not fit together."""
    if settings.ray and find_spec("ray") is None:
        _stop('--ray needs the package ray. Fix: pip install "lensmount[ray]"')
    if settings.ray and settings.grpc_port is not None:
        _stop("found --grpc-port with --ray, expected one of them: the door speaks HTTP. Fix: leave --grpc-port out")
    if settings.replicas > 1 and not settings.ray:
        _stop("found --replicas without --ray, expected both. Fix: add --ray, or leave --replicas out")


def _import_timm() -> None:
    from lensmount_adapters.light_timm import import_timm  # imports torch

    import_timm()


def _read(settings: type[S], flags: dict[str, Any], command: str, **fixed: Any) -> S:
    try:
        return read_settings(settings, flags, **fixed)
    except ValidationError as error:
        _stop(in_one_line(error), command)


def _stop(message: str, command: str = "serve", code: int = 78) -> NoReturn:
    """EX_CONFIG (78) tells a supervisor not to restart the command at once; EX_TEMPFAIL (75) allows it."""
    print(f"lensmount {command}: {message}", file=sys.stderr)  # noqa: T201  # the command's own error message
    raise typer.Exit(code)
