"""Send an archive in chunks, from wherever the server stands."""

from __future__ import annotations

from lensmount_client._api import datasets as calls
from lensmount_client._errors import BodyTooLarge, UnexpectedResponse, UploadOffsetMismatch
from lensmount_client._files.dataset_zip import Archive
from lensmount_client._http.operation import Operation
from lensmount_client._show.progress import Report
from lensmount_client._types.datasets import Dataset

CHUNK_BYTES = 4 * 2**20
SMALLEST_CHUNK_BYTES = 64 * 2**10
SETBACKS = 5  # chunks that brought nothing, before giving up


def upload(name: str, archive: Archive, report: Report, chunk_bytes: int = CHUNK_BYTES) -> Operation[Dataset]:
    """The dataset that the last chunk makes. A lost answer, or another sender of the same archive, only moves the
    point to go on from. A server that takes smaller chunks gets smaller ones.
    """
    total = archive.size_bytes
    at = yield calls.upload_received(name, archive.digest)
    setbacks = 0
    while True:
        if not 0 <= at < total:
            raise UnexpectedResponse(f"received: found {at}, expected less than the {total} bytes of the archive")
        report(at, total)
        chunk = archive.read(at, chunk_bytes)
        try:
            answer = yield calls.upload_chunk(name, archive.digest, at, chunk, total, archive.left_out)
        except BodyTooLarge:
            if chunk_bytes <= SMALLEST_CHUNK_BYTES:
                raise
            chunk_bytes //= 2
            continue
        except UploadOffsetMismatch:
            if setbacks == SETBACKS:
                raise
            answer = yield calls.upload_received(name, archive.digest)  # all but a byte, if it was finished meanwhile
        if isinstance(answer, Dataset):
            report(total, total)
            return answer
        setbacks += answer <= at
        if setbacks > SETBACKS:
            raise UnexpectedResponse(f"received: found {answer} again and again, expected more after each chunk")
        at = answer
