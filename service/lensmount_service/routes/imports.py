"""/adapters/{name}/import: adapters of other tools, converted for the server's backbone and published."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from lensmount_adapters.errors import AdapterError
from lensmount_adapters.foreign.convert import Converted, convert
from lensmount_adapters.foreign.recognise import EXTRACT, recognise
from lensmount_adapters.foreign.rule import rule_of
from lensmount_adapters.foreign.source import read_source
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.routes.context import Context
from lensmount_service.store.precondition import Precondition
from lensmount_service.store.references import require_name
from lensmount_service.store.registry import Version
from lensmount_service.tenants.adapters import TenantAdapters
from lensmount_service.web.bodies import read_raw
from lensmount_service.web.openapi import PROBLEMS, import_body
from lensmount_service.web.preconditions import TAKES_CONDITIONS, expected_of
from lensmount_service.web.schemas import AdapterRef, Imported, ImportReport

MAX_LABELS = 1000  # in the query; more of them fit into a labels.json in the zip file
SMALLER = f"send the adapter alone; the weights of a whole network become an adapter with `{EXTRACT}`"
UNPACKED = 2  # times max_adapter_bytes: what a body may unpack to

router = APIRouter(route_class=GuardedRoute, prefix="/adapters", tags=["adapters"], responses=PROBLEMS)


@router.post(
    "/{name}/import",
    status_code=201,
    dependencies=[TAKES_CONDITIONS],
    responses={200: {"model": Imported, "description": "A dry run, or the latest version already has these bytes."}},
    openapi_extra=import_body(),
    summary="Import an adapter of PEFT, LyCORIS or kohya's scripts",
)
async def import_adapter(
    context: Context,
    name: str,
    request: Request,
    response: Response,
    labels: Annotated[
        list[str] | None, Query(max_length=MAX_LABELS, description="One for each class, in order")
    ] = None,
    preprocessing: Annotated[str | None, Query(description="JSON; missing fields are the backbone's own")] = None,
    source: Annotated[str, Query(max_length=1024, description="Where the file came from; the manifest keeps it")] = "",
    dry_run: bool = False,
) -> Imported:
    """Send a safetensors file, a `.bin` or `.pth` file, or a zip file of the folder that PEFT's save_pretrained wrote.

    `labels` may be repeated, or be one text with commas. A zip file may also hold `head.safetensors` (the classifier's
    weight and bias) and `labels.json`. `dry_run` returns the report and stores nothing.
    """
    require_name(name)
    expected = expected_of(request)
    data = await read_raw(request, context.settings.max_adapter_bytes, SMALLER)
    work = partial(_converted, context.catalog, data, name, _split(labels), preprocessing, source)
    converted = await context.queues.admit(work, len(data))
    report = ImportReport.model_validate(converted.report.as_json())
    if dry_run:
        response.status_code = 200
        return Imported(adapter=None, report=report)
    version, created = await asyncio.to_thread(_published, context.catalog, name, converted.data, expected)
    response.status_code = 201 if created else 200
    response.headers["ETag"] = f'"{version.digest}"'
    response.headers["Location"] = f"/adapters/{name}/versions/{version.version}"
    return Imported(
        adapter=AdapterRef(name=version.name, version=version.version, digest=version.digest), report=report
    )


def as_foreign(error: AdapterError, data: bytes) -> AdapterError:
    """The refusal of an uploaded file, in words that name a known file of another tool and the command that helps."""
    found = recognise(data)
    return error if found is None else type(error)(str(found), code=error.code)


def _converted(
    catalog: TenantAdapters, data: bytes, name: str, labels: tuple[str, ...], preprocessing: str | None, source: str
) -> Converted:
    """Convert in the thread that also checks archives, one after the other, so that serving keeps its memory."""
    rule = None if preprocessing is None else rule_of(preprocessing, catalog.backbone)
    found = read_source(data, UNPACKED * catalog.limits.max_file_bytes)
    return convert(
        found, catalog.backbone, name=name, labels=labels, preprocessing=rule, limits=catalog.limits, origin=source
    )


def _published(catalog: TenantAdapters, name: str, data: bytes, expected: Precondition) -> tuple[Version, bool]:
    """The server made this file, so the server signs it."""
    return catalog.upload(name, data, expected=expected, signature=catalog.own_signature(data))


def _split(labels: list[str] | None) -> tuple[str, ...]:
    """One text with commas stands for several labels."""
    if labels is not None and len(labels) == 1:
        labels = labels[0].split(",")
    return tuple(label.strip() for label in labels or ())
