"""/datasets: upload a zip file at once or in chunks, list, download and delete datasets."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.engine.fair_pool import USUAL
from lensmount_service.errors import BodyTooLarge, RequestInvalid
from lensmount_service.routes.context import Context, Public, TenantContext
from lensmount_service.store.datasets import Dataset
from lensmount_service.store.faults import storage
from lensmount_service.store.keys import name_of
from lensmount_service.store.references import require_name
from lensmount_service.store.uploads import write_all
from lensmount_service.web.bodies import OpenFile, limited, read_raw
from lensmount_service.web.openapi import PROBLEMS, dataset_body, file_answer
from lensmount_service.web.preconditions import Expected, ExpectedAlone
from lensmount_service.web.schemas import DatasetInfo, DatasetList, UploadState

Digest = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$")]
VersionNumber = Annotated[int | None, Query(ge=1, le=999_999_999)]

_BLOCK_BYTES = 1 << 20
_KNOWN: dict[int | str, dict[str, Any]] = {
    200: {"model": DatasetInfo, "description": "The latest version already has this content."}
}


router = APIRouter(route_class=GuardedRoute, prefix="/datasets", tags=["datasets"], responses=PROBLEMS)


@router.get("", summary="All datasets")
async def list_datasets(context: Context, public: Public = False) -> DatasetList:
    store = context.training.datasets
    datasets = await asyncio.to_thread(store.public_entries if public else store.entries)
    return DatasetList(datasets=[_info(context, dataset) for dataset in datasets])


@router.put("/{name}", status_code=201, responses=_KNOWN, openapi_extra=dataset_body(), summary="Upload a dataset")
async def put_dataset(
    context: Context, name: str, request: Request, response: Response, expected: Expected
) -> DatasetInfo:
    """Send a zip file of class folders, or one with `manifest.csv`, `labels.csv` or `manifest.jsonl` at its top level,
    whose rows have `path`, `label` and optionally `group` and `split`.

    It is checked before anything is stored; a refusal changes nothing. The report describes its contents.
    """
    require_name(name, "dataset name")
    store = context.training.datasets
    path = await asyncio.to_thread(store.stage)
    try:
        digest = await _receive(request, path, context.settings.max_dataset_bytes)
        admit = partial(store.admit, name, path, digest, expected)
        dataset, created = await admitted(context, admit, path.stat().st_size)
    finally:
        path.unlink(missing_ok=True)
    return published(context, dataset, created, response)


@router.get("/{name}", summary="One dataset with its report")
async def get_dataset(context: Context, name: str, response: Response, version: VersionNumber = None) -> DatasetInfo:
    dataset = await asyncio.to_thread(context.training.datasets.get, name, version)
    response.headers["ETag"] = f'"{dataset.digest}"'
    return _info(context, dataset)


@router.delete("/{name}", status_code=204, summary="Delete a dataset, or one version of it")
async def delete_dataset(
    context: Context, name: str, expected: ExpectedAlone, version: VersionNumber = None, purge: bool = False
) -> None:
    """Refused with `dataset_in_use` while a queued or running job needs it.

    It can be undeleted for the time that the server's operator states. With `purge` it is gone for good, and its space
    is free at once.
    """
    await asyncio.to_thread(partial(context.training.datasets.delete, name, version, purge=purge, expected=expected))


@router.post("/{name}/undelete", summary="Undo the latest delete of a dataset, or that of one version")
async def undelete_dataset(
    context: Context, name: str, response: Response, expected: ExpectedAlone, version: VersionNumber = None
) -> DatasetInfo:
    dataset = await asyncio.to_thread(context.training.datasets.undelete, name, version, expected)
    response.headers["ETag"] = f'"{dataset.digest}"'
    return _info(context, dataset)


@router.get(
    "/{name}/file",
    response_class=Response,
    responses=file_answer("application/zip"),
    summary="The canonical archive",
)
async def get_file(
    context: Context,
    name: str,
    version: VersionNumber = None,
    digest: Annotated[str | None, Query(pattern=r"^sha256:[0-9a-f]{64}$")] = None,
) -> OpenFile:
    store = context.training.datasets
    dataset = await asyncio.to_thread(store.get, name, version, digest)
    file = await asyncio.to_thread(store.open, dataset)
    headers = {
        "ETag": f'"{dataset.digest}"',
        "Content-Disposition": f'attachment; filename="{name_of(dataset.name)}.zip"',
    }
    return OpenFile(file, "application/zip", headers)


@router.get("/{name}/uploads/{digest}", summary="How much of an upload has arrived")
async def get_upload(context: Context, name: str, digest: Digest) -> UploadState:
    """`digest` is the digest of the zip file. `received` is always below its size: the last chunk gets the result."""
    return UploadState(received=await asyncio.to_thread(context.training.datasets.received, name, digest))


@router.put(
    "/{name}/uploads/{digest}",
    status_code=201,
    response_model=DatasetInfo | UploadState,
    responses={**_KNOWN, 202: {"model": UploadState, "description": "More chunks are expected."}},
    openapi_extra=dataset_body(),
    summary="Upload a dataset in chunks",
)
async def put_chunk(
    context: Context,
    name: str,
    digest: Digest,
    request: Request,
    response: Response,
    expected: Expected,
    content_range: Annotated[str | None, Header(examples=["bytes 0-4194303/9437184"])] = None,
) -> DatasetInfo | UploadState:
    """Each chunk begins where the previous one ended; `upload_offset_mismatch` gives that offset in `received`.

    The chunk that completes the upload is answered like `PUT /datasets/{name}`.
    """
    require_name(name, "dataset name")
    settings, store = context.settings, context.training.datasets
    first, last, total = parse_content_range(content_range)
    if total > settings.max_dataset_bytes:
        raise BodyTooLarge(f"found {total} bytes in total, expected at most {settings.max_dataset_bytes}")
    data = await read_raw(request, settings.max_upload_chunk_bytes)
    if len(data) != last - first + 1:
        raise RequestInvalid(f"found {len(data)} bytes, expected the {last - first + 1} of the Content-Range")
    received = await asyncio.to_thread(store.append, name, digest, first, data, total)
    if received is not None:
        response.status_code = 202
        return UploadState(received=received)
    dataset, created = await admitted(context, partial(store.finish, name, digest, total, expected), total)
    return published(context, dataset, created, response)


async def admitted(
    context: TenantContext, admit: Callable[[], tuple[Dataset, bool]], cost: float = USUAL
) -> tuple[Dataset, bool]:
    """The result of `admit`, in the turns of the caller."""
    return await context.queues.admit(admit, cost)


async def _receive(request: Request, path: FilePath, max_bytes: int) -> str:
    """Write the body to `path` as it arrives, off the event loop. Returns its digest."""
    hasher = hashlib.sha256()

    def write(file: FileIO, data: bytes) -> None:
        with storage("the uploads"):
            write_all(file, data)
        hasher.update(data)

    with path.open("wb", buffering=0) as file:
        waiting: list[bytes] = []
        size = 0
        async for chunk in limited(request, max_bytes):
            waiting.append(chunk)
            size += len(chunk)
            if size >= _BLOCK_BYTES:
                await asyncio.to_thread(write, file, b"".join(waiting))
                waiting, size = [], 0
        await asyncio.to_thread(write, file, b"".join(waiting))
    return f"sha256:{hasher.hexdigest()}"


def parse_content_range(header: str | None) -> tuple[int, int, int]:
    """The first byte, the last byte and the total size. Raises RequestInvalid."""
    match = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", header or "", re.ASCII)
    if match is None:
        raise RequestInvalid("found no readable Content-Range, expected: bytes FIRST-LAST/TOTAL")
    first, last, total = map(int, match.groups())
    if not first <= last < total:
        raise RequestInvalid(f"found the range {first}-{last} of {total} bytes, expected FIRST <= LAST < TOTAL")
    return first, last, total


def published(context: TenantContext, dataset: Dataset, created: bool, response: Response) -> DatasetInfo:
    response.status_code = 201 if created else 200
    response.headers["ETag"] = f'"{dataset.digest}"'
    response.headers["Location"] = f"/datasets/{dataset.name}?version={dataset.version}"
    return _info(context, dataset)


def _info(context: TenantContext, dataset: Dataset) -> DatasetInfo:
    info = DatasetInfo.model_validate(dataset, from_attributes=True)
    info.tenant = context.tenant_of(dataset.name)
    return info
