"""The `datasets` of a client: folders of labelled images that the server keeps, to train on."""

from __future__ import annotations

import asyncio
import builtins
from pathlib import Path

from lensmount_client._api import datasets as calls
from lensmount_client._api.upload import upload
from lensmount_client._errors import DownloadMismatch
from lensmount_client._files.dataset_zip import open_archive
from lensmount_client._http.download import Download, download_target
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation
from lensmount_client._reference import checked_name
from lensmount_client._show.progress import Report, reporting
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.results import DownloadedFile


class Datasets:
    """`client.datasets.push("cells/").report.warnings`."""

    def __init__(self, run: SendCall) -> None:
        self._run = run

    def push(self, path: str | Path, name: str | None = None, progress: bool | Report = False) -> Dataset:
        """Upload a folder of images, by default under its own name; the same images twice are one version.

        `path` is a folder with one folder of images for each class, a folder with a `manifest.csv`,
        `labels.csv` or `manifest.jsonl` (path, label, optional group and split) at its top, or a zip of
        either. It travels in chunks: after a lost connection, and when the same push is called again, it goes
        on where it was. `progress` draws a bar, or is called with (bytes packed, None), then with (bytes that
        the server has, bytes in all). The dataset's `report` says what the server found. Raises
        DatasetRejected, ZipTooLarge, InvalidInput.
        """
        name = _name_of(path, name)
        with reporting(progress, None, "bytes") as report, open_archive(path, report) as archive:
            return run_operation(upload(name, archive, report), self._run)

    def get(self, name: str, version: int | None = None) -> Dataset:
        """One dataset, by default its latest version. Raises DatasetNotFound, or DatasetGone."""
        return self._run(calls.get_dataset(name, version))

    def delete(self, name: str, version: int | None = None) -> None:
        """Delete one version, or the dataset with all of them. Raises DatasetInUse while a job needs it."""
        return self._run(calls.delete_dataset(name, version))

    def pull(self, name: str, path: str | Path, version: int | None = None) -> DownloadedFile:
        """Download the archive to a file, or as NAME.zip into a folder; it replaces a file only when it is whole.

        It holds the images that the server took and a `manifest.jsonl` that says all about them.
        """
        return run_operation(_pull(name, path, version), self._run)

    def list(self) -> builtins.list[Dataset]:
        """The latest version of each dataset."""
        return self._run(calls.list_datasets())


class AsyncDatasets:
    """The twin of `Datasets`: `(await client.datasets.push("cells/")).report.warnings`."""

    def __init__(self, run: AsyncSendCall) -> None:
        self._run = run

    async def push(self, path: str | Path, name: str | None = None, progress: bool | Report = False) -> Dataset:
        """See `Datasets.push`."""
        name = _name_of(path, name)
        with (
            reporting(progress, None, "bytes") as report,
            await asyncio.to_thread(open_archive, path, report) as archive,
        ):
            return await arun_operation(upload(name, archive, report), self._run)

    async def get(self, name: str, version: int | None = None) -> Dataset:
        """See `Datasets.get`."""
        return await self._run(calls.get_dataset(name, version))

    async def delete(self, name: str, version: int | None = None) -> None:
        """See `Datasets.delete`."""
        return await self._run(calls.delete_dataset(name, version))

    async def pull(self, name: str, path: str | Path, version: int | None = None) -> DownloadedFile:
        """See `Datasets.pull`."""
        return await arun_operation(_pull(name, path, version), self._run)

    async def list(self) -> builtins.list[Dataset]:
        """See `Datasets.list`."""
        return await self._run(calls.list_datasets())


def _name_of(path: str | Path, name: str | None) -> str:
    if name is None:
        path = Path(path).resolve()
        name = path.stem if path.suffix.lower() == ".zip" else path.name
    return checked_name(name, "dataset name")


def _pull(name: str, path: str | Path, version: int | None) -> Operation[DownloadedFile]:
    """The version is settled first, so that a push in between does not matter."""
    with Download(download_target(path, f"{checked_name(name, 'dataset name')}.zip"), DownloadMismatch) as download:
        dataset: Dataset = yield calls.get_dataset(name, version)
        pulled: DownloadedFile = yield calls.pull_dataset(dataset, download)
        return pulled
