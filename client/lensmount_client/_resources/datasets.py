"""The `datasets` of a client: folders of labelled images that the server stores for training."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from lensmount_client._api import datasets as endpoints
from lensmount_client._api import reviews, sharing
from lensmount_client._api.upload import upload
from lensmount_client._errors import DownloadMismatch
from lensmount_client._files.dataset_zip import open_archive
from lensmount_client._files.paths import is_file
from lensmount_client._http.download import Download, download_target
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation
from lensmount_client._reference import checked_name, plain_name
from lensmount_client._resources.review_wait import ReviewWait
from lensmount_client._show.progress import reporting
from lensmount_client._types.datasets import Dataset, Draft
from lensmount_client._types.progress import Report
from lensmount_client._types.results import DownloadedFile
from lensmount_client._types.reviews import DatasetReview


class Datasets:
    """`client.datasets.push("cells/").report.warnings`."""

    def __init__(self, send: SendCall) -> None:
        self._send = send

    def push(
        self,
        path: str | Path,
        name: str | None = None,
        progress: bool | Report = False,
        class_depth: int | None = None,
    ) -> Dataset:
        """Upload a folder of images, by default under its own name. The same images make no second version.

        `path` is a folder with one folder of images for each class, a folder with a `manifest.csv`,
        `labels.csv` or `manifest.jsonl` (path, label, optional group and split) at its top, such a file, or a zip
        of either. docs/data.md has all layouts. `class_depth` is how many levels of folders name the class: 1 for
        lung/1.png, 2 for lung/aca/1.png. The data are sent in chunks, and the upload resumes after a lost connection or
        when the same push is called again. `progress` draws a bar, or is called with (bytes packed, None) and then with
        (bytes that the server has, bytes in total). The dataset's `report` says what the server found. Raises
        DatasetRejected, ZipTooLarge, InvalidInput.
        """
        name = _name_of(path, name)
        with reporting(progress, None, "bytes") as report, open_archive(path, report, class_depth) as archive:
            return run_operation(upload(name, archive, report), self._send)

    def get(self, name: str, version: int | None = None) -> Dataset:
        """One dataset, by default its latest version. Raises DatasetNotFound, or DatasetGone."""
        return self._send(endpoints.get_dataset(name, version))

    def delete(
        self, name: str, version: int | None = None, *, purge: bool = False, if_match: str | None = None
    ) -> None:
        """Delete one version, or the dataset with all its versions. Raises DatasetInUse while a job needs it.

        `undelete` takes it back for the time that the server keeps it. With `purge` it is gone for good.
        """
        return self._send(endpoints.delete_dataset(name, version, purge=purge, if_match=if_match))

    def undelete(self, name: str, version: int | None = None) -> Dataset:
        """Undo the latest delete of a dataset, or that of one version. Returns the latest version.

        Raises DatasetNotFound, or DatasetGone for a version that the server no longer keeps.
        """
        return self._send(endpoints.undelete_dataset(name, version))

    def pull(self, name: str, path: str | Path, version: int | None = None) -> DownloadedFile:
        """Download the archive to a file, or as NAME.zip into a folder. A file is replaced only by a complete one.

        The archive has the images that the server accepted and a `manifest.jsonl` that describes them.
        """
        return run_operation(_pull(name, path, version), self._send)

    def review(
        self,
        name: str,
        version: int | None = None,
        progress: bool | Report = False,
        timeout_s: float | None = None,
        group_regex: str | None = None,
    ) -> DatasetReview:
        """Find likely wrong labels, outliers, look-alikes and shortcuts. The server computes it once and keeps it.

        `progress` draws a bar, or is called with (images done, images in total). `group_regex` finds the patient, slide
        or source in the names of images, as for a job. Raises ReviewFailed, DatasetNotFound,
        Busy, or WaitTimeout after `timeout_s` seconds; the review continues after that.
        """
        with reporting(progress, None) as report:
            wait = ReviewWait(name, report, timeout_s)
            answer = self._send(reviews.start_review(name, version, group_regex))
            while (found := wait.result(answer)) is None:
                time.sleep(wait.next_s())
                answer = self._send(reviews.get_review(name, answer.version, group_regex))
            return found

    def draft(self, name: str, adapter: str, version: int | None = None, if_match: str | None = None) -> Draft:
        """Publish a first draft as a version of `adapter`, in seconds: a head on the frozen network's features.

        It needs 5 images in each class, and answers until a job's adapter replaces it. `if_match` is an ETag of the
        adapter. Raises DraftNeedsImages, DraftWouldReplace if a trained version is there, DatasetNotFound, Busy.
        """
        return self._send(endpoints.draft(name, adapter, version, if_match))

    def edit(
        self, name: str, relabel: Mapping[str, str], exclude: Collection[str] = (), version: int | None = None
    ) -> Dataset:
        """Relabel and exclude images in one new version of `version`, by default of the latest."""
        return self._send(reviews.edit_items(name, relabel, exclude, version))

    def relabel(self, name: str, labels: Mapping[str, str], version: int | None = None) -> Dataset:
        """Give some images, by path, other labels. Makes a new version of `version`, by default of the latest.

        `client.datasets.relabel("cells", client.datasets.review("cells").corrections())` after a look at each image.
        Raises DatasetRejected, for example for a path that the dataset lacks; then nothing changes.
        """
        return self._send(reviews.edit_items(name, labels, (), version))

    def exclude(self, name: str, paths: Collection[str], version: int | None = None) -> Dataset:
        """Leave images out, by path. Makes a new version of `version`, by default of the latest, which stays."""
        return self._send(reviews.edit_items(name, {}, paths, version))

    def list(self, *, public: bool = False) -> builtins.list[Dataset]:
        """The latest version of each dataset; with `public`, of those that tenants share as public/NAME."""
        return self._send(endpoints.list_datasets(public))

    def share(self, name: str, public_name: str | None = None) -> str:
        """Let all tenants read it and train on it. Returns `public/NAME`, by default with its own name.

        Raises PublicNameTaken.
        """
        return self._send(sharing.share("dataset", name, public_name))

    def unshare(self, name: str) -> None:
        """Share it no longer; a job that uses it continues."""
        return self._send(sharing.unshare("dataset", name))


class AsyncDatasets:
    """Like `Datasets`, for AsyncClient: `(await client.datasets.push("cells/")).report.warnings`."""

    def __init__(self, send: AsyncSendCall) -> None:
        self._send = send

    async def push(
        self,
        path: str | Path,
        name: str | None = None,
        progress: bool | Report = False,
        class_depth: int | None = None,
    ) -> Dataset:
        """See `Datasets.push`."""
        name = _name_of(path, name)
        with (
            reporting(progress, None, "bytes") as report,
            await asyncio.to_thread(open_archive, path, report, class_depth) as archive,
        ):
            return await arun_operation(upload(name, archive, report), self._send)

    async def get(self, name: str, version: int | None = None) -> Dataset:
        """See `Datasets.get`."""
        return await self._send(endpoints.get_dataset(name, version))

    async def delete(
        self, name: str, version: int | None = None, *, purge: bool = False, if_match: str | None = None
    ) -> None:
        """See `Datasets.delete`."""
        return await self._send(endpoints.delete_dataset(name, version, purge=purge, if_match=if_match))

    async def undelete(self, name: str, version: int | None = None) -> Dataset:
        """See `Datasets.undelete`."""
        return await self._send(endpoints.undelete_dataset(name, version))

    async def pull(self, name: str, path: str | Path, version: int | None = None) -> DownloadedFile:
        """See `Datasets.pull`."""
        return await arun_operation(_pull(name, path, version), self._send)

    async def review(
        self,
        name: str,
        version: int | None = None,
        progress: bool | Report = False,
        timeout_s: float | None = None,
        group_regex: str | None = None,
    ) -> DatasetReview:
        """See `Datasets.review`."""
        with reporting(progress, None) as report:
            wait = ReviewWait(name, report, timeout_s)
            answer = await self._send(reviews.start_review(name, version, group_regex))
            while (found := wait.result(answer)) is None:
                await asyncio.sleep(wait.next_s())
                answer = await self._send(reviews.get_review(name, answer.version, group_regex))
            return found

    async def draft(self, name: str, adapter: str, version: int | None = None, if_match: str | None = None) -> Draft:
        """See `Datasets.draft`."""
        return await self._send(endpoints.draft(name, adapter, version, if_match))

    async def edit(
        self, name: str, relabel: Mapping[str, str], exclude: Collection[str] = (), version: int | None = None
    ) -> Dataset:
        """See `Datasets.edit`."""
        return await self._send(reviews.edit_items(name, relabel, exclude, version))

    async def relabel(self, name: str, labels: Mapping[str, str], version: int | None = None) -> Dataset:
        """See `Datasets.relabel`."""
        return await self._send(reviews.edit_items(name, labels, (), version))

    async def exclude(self, name: str, paths: Collection[str], version: int | None = None) -> Dataset:
        """See `Datasets.exclude`."""
        return await self._send(reviews.edit_items(name, {}, paths, version))

    async def list(self, *, public: bool = False) -> builtins.list[Dataset]:
        """See `Datasets.list`."""
        return await self._send(endpoints.list_datasets(public))

    async def share(self, name: str, public_name: str | None = None) -> str:
        """See `Datasets.share`."""
        return await self._send(sharing.share("dataset", name, public_name))

    async def unshare(self, name: str) -> None:
        """See `Datasets.unshare`."""
        return await self._send(sharing.unshare("dataset", name))


def _name_of(path: str | Path, name: str | None) -> str:
    if name is None:
        path = Path(path).resolve()
        if path.suffix.lower() in (".csv", ".tsv", ".jsonl") and is_file(path):
            path = path.parent
        name = path.stem if path.suffix.lower() == ".zip" else path.name
    return checked_name(name, "dataset name")


def _pull(name: str, path: str | Path, version: int | None) -> Operation[DownloadedFile]:
    """The version is looked up first, so that a push in between does not matter."""
    with Download(download_target(path, f"{plain_name(name, 'dataset name')}.zip"), DownloadMismatch) as download:
        dataset: Dataset = yield endpoints.get_dataset(name, version)
        pulled: DownloadedFile = yield endpoints.pull_dataset(dataset, download)
        return pulled
