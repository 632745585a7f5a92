"""/datasets: send a zip whole or in chunks, list, read back, delete."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from functools import partial
from io import FileIO
from pathlib import Path as FilePath
from typing import Annotated, Any, BinaryIO, TypeVar

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from lensmount_service.errors import BodyTooLarge, RequestInvalid
from lensmount_service.settings import Settings
from lensmount_service.store.datasets import Dataset, DatasetStore
from lensmount_service.store.references import require_name
from lensmount_service.store.uploads import storage, write_all
from lensmount_service.web.bodies import limited, read_raw
from lensmount_service.web.openapi import PROBLEMS, dataset_body
from lensmount_service.web.schemas import DatasetInfo, DatasetList, UploadState

T = TypeVar("T")
Digest = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$")]
VersionNumber = Annotated[int | None, Query(ge=1, le=999_999_999)]

_BLOCK_BYTES = 1 << 20
_KNOWN: dict[int | str, dict[str, Any]] = {
    200: {"model": DatasetInfo, "description": "The latest version holds this content already."}
}


def datasets_router(store: DatasetStore, settings: Settings, admissions: Executor) -> APIRouter:
    """`admissions` is where archives are judged, one after the other, so that serving keeps the other cores."""
    router = APIRouter(prefix="/datasets", tags=["datasets"], responses=PROBLEMS)

    async def judged(work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(admissions, work)

    @router.get("", summary="All datasets")
    async def list_datasets() -> DatasetList:
        return DatasetList(datasets=[_info(dataset) for dataset in await asyncio.to_thread(store.entries)])

    @router.put("/{name}", status_code=201, responses=_KNOWN, openapi_extra=dataset_body(), summary="Upload a dataset")
    async def put_dataset(name: str, request: Request, response: Response) -> DatasetInfo:
        """A zip of class folders, or one with `manifest.csv`, `labels.csv` or `manifest.jsonl` at its top, whose rows
        have `path`, `label` and optionally `group` and `split`.

        It is judged before anything is kept; a refusal changes nothing. The report says what was found.
        """
        require_name(name, "dataset name")
        path = await asyncio.to_thread(store.uploads.stage)
        try:
            digest = await _receive(request, path, settings.max_dataset_bytes)
            dataset, created = await judged(partial(store.admit, name, path, digest))
        finally:
            path.unlink(missing_ok=True)
        return _published(dataset, created, response)

    @router.get("/{name}", summary="One dataset with its report")
    async def get_dataset(name: str, version: VersionNumber = None) -> DatasetInfo:
        return _info(await asyncio.to_thread(store.get, name, version))

    @router.delete("/{name}", status_code=204, summary="Delete a dataset, or one version of it")
    async def delete_dataset(name: str, version: VersionNumber = None) -> None:
        """Refused with `dataset_in_use` while a job waits for it or trains on it."""
        await asyncio.to_thread(store.delete, name, version)

    @router.get("/{name}/file", response_class=StreamingResponse, summary="The canonical archive")
    async def get_file(
        name: str,
        version: VersionNumber = None,
        digest: Annotated[str | None, Query(pattern=r"^sha256:[0-9a-f]{64}$")] = None,
    ) -> StreamingResponse:
        dataset = await asyncio.to_thread(store.get, name, version, digest)
        file = await asyncio.to_thread(store.open, dataset)
        headers = {
            "ETag": f'"{dataset.digest}"',
            "Content-Length": str(dataset.size_bytes),
            "Content-Disposition": f'attachment; filename="{dataset.name}.zip"',
        }
        return StreamingResponse(_blocks(file), media_type="application/zip", headers=headers)

    @router.get("/{name}/uploads/{digest}", summary="How much of an upload is there")
    async def get_upload(name: str, digest: Digest) -> UploadState:
        """`digest` is that of the zip file being sent. Always less than its size: the last chunk brings the answer."""
        return UploadState(received=await asyncio.to_thread(store.received, name, digest))

    @router.put(
        "/{name}/uploads/{digest}",
        status_code=201,
        response_model=DatasetInfo | UploadState,
        responses={**_KNOWN, 202: {"model": UploadState, "description": "More is to come."}},
        openapi_extra=dataset_body(),
        summary="Upload a dataset in chunks",
    )
    async def put_chunk(
        name: str,
        digest: Digest,
        request: Request,
        response: Response,
        content_range: Annotated[str | None, Header(examples=["bytes 0-4194303/9437184"])] = None,
    ) -> DatasetInfo | UploadState:
        """A chunk that begins where the last one ended; `upload_offset_mismatch` says in `received` where that is.

        The chunk that makes the upload whole is answered like `PUT /datasets/{name}`.
        """
        require_name(name, "dataset name")
        first, last, total = _range(content_range)
        if total > settings.max_dataset_bytes:
            raise BodyTooLarge(f"found {total} bytes in all, expected at most {settings.max_dataset_bytes}")
        data = await read_raw(request, settings.max_upload_chunk_bytes)
        if len(data) != last - first + 1:
            raise RequestInvalid(f"found {len(data)} bytes, expected the {last - first + 1} of the Content-Range")
        received = await asyncio.to_thread(store.append, name, digest, first, data, total)
        if received is not None:
            response.status_code = 202
            return UploadState(received=received)
        dataset, created = await judged(partial(store.finish, name, digest, total))
        return _published(dataset, created, response)

    return router


async def _receive(request: Request, path: FilePath, max_bytes: int) -> str:
    """Write the body to `path` as it comes, off the event loop; returns its digest."""
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


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block
    finally:
        file.close()


def _range(header: str | None) -> tuple[int, int, int]:
    """First and last byte and the total of a chunk. Raises RequestInvalid."""
    match = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", header or "", re.ASCII)
    if match is None:
        raise RequestInvalid("found no Content-Range that can be read, expected: bytes FIRST-LAST/TOTAL")
    first, last, total = map(int, match.groups())
    if not first <= last < total:
        raise RequestInvalid(f"found the range {first}-{last} of {total} bytes, expected FIRST <= LAST < TOTAL")
    return first, last, total


def _published(dataset: Dataset, created: bool, response: Response) -> DatasetInfo:
    response.status_code = 201 if created else 200
    response.headers["ETag"] = f'"{dataset.digest}"'
    response.headers["Location"] = f"/datasets/{dataset.name}?version={dataset.version}"
    return _info(dataset)


def _info(dataset: Dataset) -> DatasetInfo:
    return DatasetInfo.model_validate(dataset, from_attributes=True)
