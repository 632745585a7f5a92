"""The server's part of `lensmount doctor`: how a server would start and compute on this machine. Changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
import torch
from pydantic import ValidationError

from lensmount_adapters.backbone.packaged import is_installed
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.machine import choose_device, computes_bfloat16
from lensmount_adapters.programs.choose import explain_choice
from lensmount_adapters.programs.int8 import available
from lensmount_service.cli_options import in_one_line
from lensmount_service.errors import ServiceError
from lensmount_service.jobs.worker_table import SEEN_S, worker_table
from lensmount_service.settings import Settings
from lensmount_service.startup import cannot_serve, port_taken
from lensmount_service.state_folder import open_state_folder
from lensmount_service.store.database import Database

LOW_BYTES = 2 * 10**9  # of free disk: compiled programs, exports and job files take gigabytes


class Finding(NamedTuple):
    """The client's `Finding`: `level` is "ok", "note" or "problem"."""

    part: str
    level: str
    found: str
    fix: str = ""


def findings(state: Path | None = None) -> list[Finding]:
    """What a server with the LENSMOUNT_ variables of this process would find."""
    try:
        settings = Settings() if state is None else Settings(state=state)
    except ValidationError as error:
        text = in_one_line(error)
        return [Finding("settings", "problem", text, "correct the LENSMOUNT_ variable of that name, or unset it")]
    return [*_compute(settings), *_store(settings), _port(settings), _worker(settings)]


def _compute(settings: Settings) -> Iterator[Finding]:
    """Device, arithmetic and executor, and where the backbone's weights come from."""
    device = torch.device("cpu")
    try:
        device = torch.device(choose_device(settings.device))
        yield _device(device)
    except (RuntimeError, LensmountError) as error:
        yield Finding("device", "problem", f"{settings.device}: {str(error).splitlines()[0]}", "use --device auto")
    try:
        name, why = "merged", "asked for: one adapter at a time, in place"
        if settings.executor != "merged":
            programs = settings.state / "programs"
            name, why = explain_choice(settings.executor, settings.arithmetic, device, settings.threads, programs)
    except LensmountError as error:
        yield Finding("executor", "problem", str(error), "use --executor auto")
    else:
        yield Finding("executor", "ok", f"{name} ({why}), {settings.threads} threads")
    if settings.precision == "int8" and not available():
        fix = 'pip install "lensmount[int8]", or use --precision auto'
        yield Finding("int8", "problem", "asked for, but NNCF is not installed", fix)
    yield _weights(settings)


def _device(device: torch.device) -> Finding:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return Finding(
            "device", "ok", f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, torch {torch.__version__}"
        )
    arithmetic = "computes bfloat16" if computes_bfloat16(device) else "has no bfloat16, so float32 is used"
    found = f"CPU, which {arithmetic}; torch {torch.__version__}"
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        fix = "install a CUDA build of torch that fits the driver (`nvidia-smi` shows its version)"
        return Finding("device", "note", f"{found}, which does not find the NVIDIA GPU", fix)
    return Finding("device", "ok", found)


def _weights(settings: Settings) -> Finding:
    name = settings.backbone
    if settings.weights is not None or is_installed(name):
        return Finding("backbone", "ok", f"{name}, weights from {settings.weights or 'an installed package'}")
    found = f"{name}, whose weights the first start downloads from the hub"
    return Finding("backbone", "note", found, "give a file with --weights FILE if this machine has no network")


def _store(settings: Settings) -> Iterator[Finding]:
    """The state folder, its disk and its database."""
    folder = settings.state
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if folder.exists():
        try:
            open_state_folder(folder)
        except ServiceError as error:
            found, _, fix = str(error).partition(" Fix: ")
            yield Finding("state", "problem", found, fix)
            return
    elif not os.access(there, os.W_OK | os.X_OK):
        fix = "give another folder with --state or LENSMOUNT_STATE"
        yield Finding("state", "problem", f"{folder} cannot be made: this user may not write to {there}", fix)
        return
    free = shutil.disk_usage(there).free
    found = f"{folder}{'' if folder.exists() else ' (made by the first start)'}, {free / 1e9:.1f} GB free on its disk"
    if free < LOW_BYTES:
        fix = "free some space, or give a folder on another disk with --state: `lensmount gc` removes unused files"
        yield Finding("state", "note", found, fix)
    else:
        yield Finding("state", "ok", found)


def _port(settings: Settings) -> Finding:
    try:
        with port_taken(settings):
            return Finding("port", "ok", f"{settings.host}:{settings.port} is free")
    except OSError as error:
        found, _, fix = cannot_serve(settings, error).partition(" Fix: ")
        return Finding("port", "note", f"{found} (a server that runs already has it)", fix)


def _worker(settings: Settings) -> Finding:
    """Whether a worker has asked for jobs in the last seconds, as the database says."""
    url = settings.database_url()
    if isinstance(url, Path) and not url.exists():
        alive = 0
    else:
        try:
            with closing(Database(url)) as database, database.read() as connection:
                since = database.now(connection) - SEEN_S
                count = sa.select(sa.func.count()).select_from(worker_table).where(worker_table.c.seen_at >= since)
                alive = int(connection.execute(count).scalar_one())
        except ServiceError as error:
            found, _, fix = str(error).partition(" Fix: ")
            return Finding("worker", "problem", f"the database cannot be read: {found}", fix or "lensmount store check")
    if alive:
        return Finding("worker", "ok", f"{alive} {'asks' if alive == 1 else 'ask'} for jobs")
    return Finding(
        "worker", "note", "none runs, so jobs wait", "`lensmount serve --with-worker`, or `lensmount worker`"
    )
