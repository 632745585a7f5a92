"""Send an archive in chunks, starting where the server's copy ends."""

from __future__ import annotations

from dataclasses import replace

from lensmount_client._api import datasets as endpoints
from lensmount_client._errors import BodyTooLarge, UnexpectedResponse, UploadOffsetMismatch
from lensmount_client._files.dataset_zip import Archive
from lensmount_client._http.operation import Operation
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.progress import Report

CHUNK_BYTES = 4 * 2**20
SMALLEST_CHUNK_BYTES = 64 * 2**10
MAX_SETBACKS = 5  # chunks in all that the server did not add to its copy, before giving up


def upload(name: str, archive: Archive, report: Report, chunk_bytes: int = CHUNK_BYTES) -> Operation[Dataset]:
    """Return the dataset that the last chunk completes. After a lost response, or if someone else sends the same
    archive, the upload resumes where the server's copy ends. A server that refuses large chunks gets smaller ones.
    """
    total = archive.size_bytes
    at = yield endpoints.upload_received(name, archive.digest)
    setbacks = 0
    while True:
        if not 0 <= at < total:
            raise UnexpectedResponse(f"received: found {at}, expected less than the {total} bytes of the archive")
        report(at, total)
        chunk = archive.read(at, chunk_bytes)
        try:
            result = yield endpoints.upload_chunk(name, archive.digest, at, chunk, total)
        except BodyTooLarge:
            if chunk_bytes <= SMALLEST_CHUNK_BYTES:
                raise
            chunk_bytes //= 2
            continue
        except UploadOffsetMismatch:
            if setbacks == MAX_SETBACKS:
                raise
            # If someone else finished the upload in the meantime, the server says all bytes but one.
            result = yield endpoints.upload_received(name, archive.digest)
        if isinstance(result, Dataset):
            report(total, total)
            return replace(result, left_out=archive.left_out, notes=archive.notes)
        setbacks += result <= at
        if setbacks > MAX_SETBACKS:
            raise UnexpectedResponse(f"received: found {result} several times, expected more after each chunk")
        at = result
