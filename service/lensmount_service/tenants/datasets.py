"""The datasets that one tenant sees: its own, and those that are shared as public/NAME."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import sqlalchemy as sa

from lensmount_adapters.data.dataset import Listed
from lensmount_adapters.data.edits import Edits
from lensmount_adapters.data.split_advice import SplitOptions
from lensmount_adapters.errors import ArchiveInvalid, DatasetError
from lensmount_service.errors import NotFound, Unusable
from lensmount_service.jobs.records import DatasetPin
from lensmount_service.store.dataset_rows import corrupt
from lensmount_service.store.datasets import Dataset, DatasetStore
from lensmount_service.store.keys import is_public, name_of
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.shares import Share
from lensmount_service.tenants.adapters import not_shared
from lensmount_service.tenants.space import Space


@dataclass(frozen=True, slots=True)
class TenantDatasets:
    """`datasets.get("cells")`: the methods of DatasetStore for one tenant; safe from any thread.

    Every method raises what that of DatasetStore raises, and Forbidden (`public_read_only`) if it would change
    public/NAME.
    """

    store: DatasetStore
    space: Space

    def stage(self) -> Path:
        """A new file for a body that arrives in one request."""
        return self.store.uploads.stage()

    def admit(self, name: str, path: Path, source_digest: str, expected: Precondition = ANY) -> tuple[Dataset, bool]:
        with self.space.own(name) as key:
            return _published(self.store.admit(key, path, source_digest, self._actor, expected), name)

    def edit(
        self, name: str, edits: Edits, version: int | None = None, expected: Precondition = ANY
    ) -> tuple[Dataset, bool]:
        with self.space.own(name) as key:
            return _published(self.store.edit(key, edits, version, self._actor, expected), name)

    def add_version(self, name: str, listed: Listed) -> tuple[Dataset, bool]:
        with self.space.own(name) as key:
            return _published(self.store.add_version(key, listed, self._actor), name)

    def received(self, name: str, digest: str) -> int:
        with self.space.own(name) as key:
            return self.store.received(key, digest)

    def append(self, name: str, digest: str, first: int, data: bytes, total: int) -> int | None:
        with self.space.own(name) as key:
            return self.store.append(key, digest, first, data, total, self._actor)

    def finish(self, name: str, digest: str, total: int, expected: Precondition = ANY) -> tuple[Dataset, bool]:
        with self.space.own(name) as key:
            return _published(self.store.finish(key, digest, total, self._actor, expected), name)

    def get(self, name: str, version: int | None = None, digest: str | None = None) -> Dataset:
        with self.space.reading("dataset", name) as key:
            return named(self.store.get(key, version, digest), name)

    def pin(self, dataset: Dataset) -> DatasetPin:
        """A version for a job, which keeps its key: the public name may be given up meanwhile."""
        key = self.space.key("dataset", dataset.name) if is_public(dataset.name) else None
        return DatasetPin(dataset.name, dataset.version, dataset.digest, key)

    def require(self, connection: sa.Connection, pin: DatasetPin) -> Dataset:
        """An existing version, read within the caller's transaction. Raises NotFound or VersionDeleted."""
        with self.space.reading("dataset", pin.name) as key:
            return named(self.store.require(connection, pin.key or key, pin.version), pin.name)

    def entries(self) -> list[Dataset]:
        """The latest version of each of the tenant's own datasets, by name."""
        return [named(dataset, name_of(dataset.name)) for dataset in self.store.entries(self.space.tenant)]

    def public_entries(self) -> list[Dataset]:
        """The latest version of each shared dataset, by public name."""
        found = []
        for share in self.space.shares.list("dataset"):
            try:
                found.append(named(self.store.get(share.key), share.public_name))
            except NotFound:  # deleted meanwhile
                continue
        return found

    def listed(self, dataset: Dataset) -> Listed:
        with self._present(dataset):
            return self.store.listed(dataset)

    def image(self, dataset: Dataset, path: str) -> bytes:
        """One image of a version. Raises NotFound (`file_not_found`) if it has none of that name."""
        with self._present(dataset):
            source = self.store.listed(dataset).source
            if source.has(path) and not path.endswith(".jsonl"):
                try:
                    return source.read(path)
                except (OSError, ArchiveInvalid) as error:
                    raise corrupt(dataset) from error
        raise NotFound("found no such image in the dataset. Fix: take the path from the review", code="file_not_found")

    def path(self, dataset: Dataset) -> Path:
        return self.store.path(dataset)

    def open(self, dataset: Dataset) -> BinaryIO:
        with self._present(dataset):
            return self.store.open(dataset)

    def refusal(self, dataset: Dataset, options: SplitOptions, group_regex: str | None) -> DatasetError | None:
        with self._present(dataset):
            return self.store.refusal(dataset, options, group_regex)

    @contextmanager
    def _present(self, dataset: Dataset) -> Iterator[None]:
        """A file that cannot be read is damaged, unless somebody removed its version meanwhile."""
        try:
            yield
        except Unusable:
            self.get(dataset.name, dataset.version)
            raise

    def delete(
        self, name: str, version: int | None = None, *, purge: bool = False, expected: Precondition = ANY
    ) -> None:
        """A dataset without versions is shared no longer."""
        with self.space.own(name) as key:
            self.store.delete(key, version, purge=purge, expected=expected)
            try:
                self.store.get(key)
            except NotFound:
                self.space.shares.end("dataset", key)

    def undelete(self, name: str, version: int | None = None, expected: Precondition = ANY) -> Dataset:
        with self.space.own(name) as key:
            return named(self.store.undelete(key, version, expected), name)

    def share(self, name: str, public_name: str | None = None, expected: Precondition = ANY) -> Share:
        """Let all tenants read a dataset as public/NAME. Raises NameTaken.

        `expected` is about its latest version. Later versions are shared too, so no transaction has to hold both.
        """
        with self.space.own(name) as key:
            expected.require(self.store.get(key).digest)
            return self.space.shares.add("dataset", public_name or name, key, self._actor)

    def unshare(self, name: str, expected: Precondition = ANY) -> None:
        """Raises NotFound if it is not shared."""
        with self.space.own(name) as key:
            expected.require(self.store.get(key).digest)
            if not self.space.shares.end("dataset", key):
                raise not_shared("dataset", name)

    @property
    def _actor(self) -> str:
        return self.space.identity.actor


def named(dataset: Dataset, name: str) -> Dataset:
    """The version under the name by which it was asked for. Who uploaded it is its own tenant's business."""
    if dataset.name == name:
        return dataset
    return replace(dataset, name=name, owner=None if is_public(name) else dataset.owner)


def _published(published: tuple[Dataset, bool], name: str) -> tuple[Dataset, bool]:
    return named(published[0], name), published[1]
