"""The endpoints of datasets: one function each, from arguments to a Call."""

from __future__ import annotations

from lensmount_client._api.protect import content_digest, if_matches
from lensmount_client._api.read import etag_of, nothing
from lensmount_client._api.read_datasets import dataset_of, draft_of
from lensmount_client._http.call import Call
from lensmount_client._http.download import Download
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import checked_name, checked_readable, checked_version
from lensmount_client._types.datasets import Dataset, Draft
from lensmount_client._types.results import DownloadedFile

ZIP = "application/zip"
DRAFT_S = 600.0  # what the server allows itself; 1,000 images take 30 s on 2 quiet cores
CHECKING_S = 1800.0  # the server decodes and compares every image before it answers the last chunk


def list_datasets(public: bool = False) -> Call[list[Dataset]]:
    def read(response: Response) -> list[Dataset]:
        return [dataset_of(item) for item in JsonFields.of(response).children("datasets")]

    return Call("GET", "/datasets", read, params={"public": "true"} if public else {})


def get_dataset(name: str, version: int | None) -> Call[Dataset]:
    params = _version(version)
    return Call("GET", _dataset_path(name), lambda response: dataset_of(JsonFields.of(response)), params=params)


def delete_dataset(name: str, version: int | None, *, purge: bool = False, if_match: str | None = None) -> Call[None]:
    params = _version(version) | ({"purge": "true"} if purge else {})
    return Call("DELETE", _dataset_path(name), nothing, params=params, headers=if_matches(if_match), gone_is_done=True)


def undelete_dataset(name: str, version: int | None) -> Call[Dataset]:
    path = f"{_dataset_path(name)}/undelete"
    return Call("POST", path, lambda response: dataset_of(JsonFields.of(response)), params=_version(version))


def draft(name: str, adapter: str, version: int | None, if_match: str | None = None) -> Call[Draft]:
    return Call(
        "POST",
        f"{_dataset_path(name)}/draft",
        lambda response: draft_of(JsonFields.of(response)),
        params={"adapter": checked_name(adapter)} | _version(version),
        headers=if_matches(if_match),
        read_s=DRAFT_S,
    )


def pull_dataset(dataset: Dataset, download: Download) -> Call[DownloadedFile]:
    """Download the archive. Its known size is the limit, instead of the client's limit on responses."""

    def read(response: Response) -> DownloadedFile:
        return download.finish(etag_of(response) or dataset.digest, response.request_id)

    return Call(
        "GET",
        f"{_dataset_path(dataset.name)}/file",
        read,
        params={"digest": dataset.digest},
        sink=download,
        limit_bytes=max(dataset.size_bytes, 2**20),  # large enough for a problem document too
    )


def upload_received(name: str, digest: str) -> Call[int]:
    """How many bytes of the archive with this digest the server already has."""
    return Call("GET", _upload_path(name, digest), lambda response: JsonFields.of(response).integer("received"))


def upload_chunk(name: str, digest: str, first: int, chunk: bytes, total: int) -> Call[int | Dataset]:
    """Send one chunk. Returns the number of bytes the server now has, or the dataset after the last chunk."""

    def read(response: Response) -> int | Dataset:
        fields = JsonFields.of(response)
        return fields.integer("received") if response.status == 202 else dataset_of(fields)

    last = first + len(chunk) - 1
    return Call(
        "PUT",
        _upload_path(name, digest),
        read,
        content=chunk,
        content_type=ZIP,
        headers={"Content-Range": f"bytes {first}-{last}/{total}", "Content-Digest": content_digest(chunk)},
        read_s=CHECKING_S if last + 1 == total else None,
    )


def _dataset_path(name: str) -> str:
    return f"/datasets/{checked_readable(name, 'dataset name')}"


def _upload_path(name: str, digest: str) -> str:
    return f"{_dataset_path(name)}/uploads/{digest}"


def _version(version: int | None) -> dict[str, str | int]:
    return {} if version is None else {"version": checked_version(version)}
