"""Images that wait for labels: a pool per dataset name, the labels that people gave, and who looks at which image now.

An image is a file named by its digest, complete and durable before its row is committed. Labels are only ever added.
versions.py makes a version of the dataset of them when someone asks for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_service.errors import NotFound, StorageFull, Unusable
from lensmount_service.pools.overview import PoolSummary, summaries
from lensmount_service.pools.rows import (
    Answered,
    CheckedImage,
    PoolImage,
    PoolLabel,
    PoolState,
    check_labels_of,
    checked_image,
    clean_group,
    columns_of,
    image_of,
    image_table,
    label_of,
    label_table,
    lease_table,
    said_before,
    state_of,
    tag_of,
    turns,
)
from lensmount_service.store.database import Database
from lensmount_service.store.faults import storage
from lensmount_service.store.keys import Charge, free_of_charge
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.references import require_key
from lensmount_service.store.remote.mirror import Mirror
from lensmount_service.store.uploads import old_files

if TYPE_CHECKING:
    from lensmount_service.store.remote.objects import Objects

log = structlog.get_logger(__name__)

_images, _labels, _leases = image_table.c, label_table.c, lease_table.c
_MAKE_ROOM = "Fix: delete a pool that is no longer needed: DELETE /datasets/{name}/unlabelled"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much all pools may hold, and what an image may be."""

    max_bytes: int = 4 * 2**30
    max_images: int = 100_000
    max_labels: int = 1_000_000
    image: ImageLimits = field(default_factory=ImageLimits)


class Pools:
    """`pools.add("cells", data, "reader1")`, `pools.lease("cells", digests, "reader1", 600)`, ...; any thread.

    Several processes may share the database and the folder, or the database and an object store.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        limits: PoolLimits | None = None,
        charge: Charge = free_of_charge,
        objects: Objects | None = None,
    ) -> None:
        self.files = Mirror(folder, "", objects)
        self._database = database
        self._folder = folder
        self._charge = charge
        self._owner: str | None = None
        self._limits = limits or PoolLimits()
        database.create()

    def paid_by(self, owner: str) -> Pools:
        """The same pools, for the actor who sends images and labels: what is added counts for this one."""
        own = copy.copy(self)
        own._owner = owner
        return own

    def add(self, name: str, data: bytes, who: str, group: str | None = None) -> tuple[PoolImage, bool]:
        """Keep an image without its private tags. Returns it, and False if the pool already had it undamaged.

        Replaces a damaged file. Raises ImageError, DatasetError, QuotaExceeded, StorageFull or Unavailable; then
        changes nothing.
        """
        return self.add_all(name, [self.checked(data)], who, group)[0]

    def checked(self, data: bytes) -> CheckedImage:
        """An image as `add_all` takes it. Raises ImageError."""
        return checked_image(data, self._limits.image)

    def add_all(
        self,
        name: str,
        images: Sequence[CheckedImage],
        who: str,
        group: str | None = None,
        expected: Precondition = ANY,
    ) -> list[tuple[PoolImage, bool]]:
        """Keep several images in one transaction: all of them, or none. Returns what `add` does, for each.

        `expected` is about the pool. Raises PreconditionFailed, DatasetError, QuotaExceeded, StorageFull or
        Unavailable.
        """
        return self._add(name, images, who, clean_group(group), expected)

    def correct(
        self, name: str, data: bytes, label: str, who: str, answered: Answered, expected: Precondition = ANY
    ) -> PoolImage:
        """Keep an image together with its right label, in one transaction."""
        check_labels_of([label])
        image = self.checked(data)
        return self._add(name, [image], who, None, expected, ({image.digest: label}, answered))[0][0]

    def _add(
        self,
        name: str,
        images: Sequence[CheckedImage],
        who: str,
        group: str | None,
        expected: Precondition,
        given: tuple[Mapping[str, str], Answered] | None = None,
    ) -> list[tuple[PoolImage, bool]]:
        require_key(name, "dataset name")
        different = {image.digest: image for image in images}
        with storage("the pools"):
            damaged = {digest for digest in different if self.files.read(digest) is None}
        for digest in damaged:
            self.files.create(digest, different[digest].data)
        with self._database.write() as connection:
            kept = {row.digest: image_of(row) for digest in different if (row := self._row(connection, name, digest))}
            new = [image for digest, image in different.items() if digest not in kept]
            tag = tag_of(connection, name)
            said = said_before(connection, name, given[0], who, given[1]) if given and expected.if_match else []
            expected.require(tag, new=None if new or (given and not said) else tag)
            if new:
                more_bytes = sum(len(image.data) for image in new)
                self._check_room(connection, len(new), more_bytes)
                self._charge(connection, name, self._owner, more_bytes)
            with storage("the pools"):
                self._folder.mkdir(parents=True, exist_ok=True)
                for image in different.values():
                    if image.digest not in kept or image.digest in damaged:
                        write_atomic(self.files.local(image.digest), image.data)
            at = self._database.now(connection)
            for index, image in enumerate(new):  # a microsecond apart, so that they keep their order
                made = PoolImage(image.digest, image.suffix, len(image.data), group, at + index * 1e-6, who)
                connection.execute(image_table.insert().values(dataset=name, owner=self._owner, **columns_of(made)))
                kept[image.digest] = made
            if given is not None and not said:
                self._insert_labels(connection, name, given[0], who, given[1])
        for digest in different:
            self.files.share_again(digest)
        first = {image.digest for image in new}
        answer = []
        for image in images:
            answer.append((kept[image.digest], image.digest in first))
            first.discard(image.digest)
        return answer

    def state(self, name: str) -> PoolState:
        """How much is in a pool. Raises NotFound if there is none."""
        require_key(name, "dataset name")
        with self._database.read() as connection:
            self._require(connection, name)
            state = state_of(connection, name)
        assert state is not None, "a pool has images"
        return state

    def summaries(self, tenant: str) -> list[PoolSummary]:
        """What each pool of a tenant holds, by name."""
        with self._database.read() as connection:
            return summaries(connection, tenant, self._database.now(connection))

    def images(self, name: str) -> list[PoolImage]:
        """All images of a pool, in the order in which they came. Raises NotFound if there are none."""
        require_key(name, "dataset name")
        with self._database.read() as connection:
            return self._all(connection, name)

    def read(self, name: str, digest: str) -> bytes:
        """The stored bytes. Raises NotFound or Unavailable (`dataset_corrupt`)."""
        self._require_image(name, digest)
        with storage("the pools"):
            data = self.files.read(digest)
        if data is None:
            self._require_image(name, digest)  # unless somebody deleted the pool meanwhile, the file is damaged
            raise _damaged(digest)
        return data

    def free(self, name: str, who: str, expected: Precondition = ANY) -> tuple[list[str], list[str], list[str]]:
        """Digests: those that `who` holds, those that nobody has, and others (with a label, or held by others)."""
        require_key(name, "dataset name")
        with self._database.read() as connection:
            images = self._digests(connection, name)
            expected.require(tag_of(connection, name))
            taken = set(connection.execute(sa.select(_labels.digest).where(_labels.dataset == name)).scalars())
            leases = self._live_leases(connection, name)
        own = [digest for digest in images if digest not in taken and leases.get(digest) == who]
        free = [digest for digest in images if digest not in taken and digest not in leases]
        known = {*own, *free}
        return own, free, [digest for digest in images if digest not in known]

    def lease(self, name: str, wanted: Sequence[str], who: str, seconds: float) -> list[str]:
        """Reserve images for one person. Returns those that nobody else has meanwhile labelled or reserved."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(lease_table.delete().where(_leases.dataset == name, _leases.until <= now))
            known = self._among(connection, image_table, name, wanted)
            taken = self._among(connection, label_table, name, wanted)
            taken |= self._among(connection, lease_table, name, wanted, _leases.who != who)
            got = [digest for digest in wanted if digest in known - taken]
            for some in turns(got):
                connection.execute(lease_table.delete().where(_leases.dataset == name, _leases.digest.in_(some)))
                rows = [{"dataset": name, "digest": digest, "who": who, "until": now + seconds} for digest in some]
                connection.execute(lease_table.insert(), rows)
        return got

    def label(self, name: str, labels: Mapping[str, str], who: str, expected: Precondition = ANY) -> list[PoolLabel]:
        """Add labels and end the leases of these images.

        Raises NotFound, DatasetError or PreconditionFailed; then none is added.
        """
        check_labels_of(labels.values())
        with self._database.write() as connection:
            known = self._among(connection, image_table, name, list(labels))
            if unknown := [digest for digest in labels if digest not in known]:
                self._require(connection, name)
                raise NotFound(
                    f"found {len(unknown)} image(s) that the pool of {name!r} lacks, such as {unknown[0][:80]!r}. "
                    "Fix: take the digests from POST /datasets/{name}/next",
                    code="file_not_found",
                )
            tag = tag_of(connection, name)
            said = said_before(connection, name, labels, who, Answered()) if expected.if_match else []
            expected.require(tag, new=tag if said else None)
            return said or self._insert_labels(connection, name, labels, who, Answered())

    def labels(self, name: str, after: int = 0, limit: int | None = None) -> list[PoolLabel]:
        """The labels of a pool with numbers above `after`, in order."""
        query = label_table.select().where(_labels.dataset == name, _labels.number > after).order_by(_labels.number)
        with self._database.read() as connection:
            return [label_of(row) for row in connection.execute(query if limit is None else query.limit(limit))]

    def answers(self, name: str, digests: Sequence[str]) -> dict[str, str]:
        """By image: the adapter whose answer its first label of feedback corrected, as in `Answered`."""
        found: dict[str, str] = {}
        with self._database.read() as connection:
            for some in turns(list(digests)):
                of = sa.and_(_labels.dataset == name, _labels.digest.in_(some), _labels.adapter.is_not(None))
                query = sa.select(_labels.digest, _labels.adapter).where(of).order_by(_labels.number.desc())
                found.update({row.digest: row.adapter for row in connection.execute(query)})
        return found

    def delete(self, name: str, expected: Precondition = ANY) -> None:
        """Delete the images, labels and leases of a pool. Raises NotFound or PreconditionFailed."""
        with self._database.write() as connection:
            gone = self._digests(connection, name)
            expected.require(tag_of(connection, name))
            for table in (image_table, label_table, lease_table):
                connection.execute(table.delete().where(table.c.dataset == name))
        for some in turns(gone):  # after the commit, and other writers get their turns
            self._remove_unneeded(some)
        log.info("pool deleted", dataset=name, images=len(gone))

    @contextmanager
    def alone(self) -> Iterator[set[str]]:
        """The digests of all images, during a transaction in which none can be added."""
        with self._database.write() as connection:
            yield set(connection.execute(sa.select(_images.digest).distinct()).scalars())

    def remove_orphans(self, older_than_s: float) -> int:
        """Remove files without a row, as a crash between file and commit leaves them. Returns how many."""
        with self.alone() as known, storage("the pools"):
            old = old_files(self._folder, older_than_s) if self._folder.is_dir() else []
            gone = [path for path in old if f"sha256:{path.name}" not in known]
            for path in gone:
                path.unlink(missing_ok=True)
        return len(gone)

    def _remove_unneeded(self, digests: Sequence[str]) -> None:
        """Remove the files of images that no pool has any more."""
        with self._database.write() as connection, storage("the pools"):
            needed = connection.execute(sa.select(_images.digest).where(_images.digest.in_(digests))).scalars()
            self.files.remove(set(digests).difference(needed))

    def _insert_labels(
        self, connection: sa.Connection, name: str, labels: Mapping[str, str], who: str, answered: Answered
    ) -> list[PoolLabel]:
        count = connection.execute(sa.select(sa.func.count()).select_from(label_table)).scalar_one()
        if count + len(labels) > self._limits.max_labels:
            raise StorageFull(
                f"found {count} labels in the pools, expected at most {self._limits.max_labels}. {_MAKE_ROOM}"
            )
        now = self._database.now(connection)
        made = []
        for digest, label in labels.items():
            values = {"digest": digest, "label": label, "who": who, "at": now}
            values |= {"adapter": answered.adapter, "request_id": answered.request_id}
            result = connection.execute(label_table.insert().values(dataset=name, **values))
            assert result.inserted_primary_key is not None
            made.append(PoolLabel(int(result.inserted_primary_key[0]), **values))  # type: ignore[arg-type]  # by name
            connection.execute(lease_table.delete().where(_leases.dataset == name, _leases.digest == digest))
        return made

    def _all(self, connection: sa.Connection, name: str) -> list[PoolImage]:
        self._require(connection, name)
        query = image_table.select().where(_images.dataset == name).order_by(_images.added_at, _images.digest)
        return [image_of(row) for row in connection.execute(query)]

    def _digests(self, connection: sa.Connection, name: str) -> list[str]:
        self._require(connection, name)
        query = sa.select(_images.digest).where(_images.dataset == name).order_by(_images.added_at, _images.digest)
        return list(connection.execute(query).scalars())

    def _require(self, connection: sa.Connection, name: str) -> None:
        if connection.execute(sa.select(_images.digest).where(_images.dataset == name).limit(1)).first() is None:
            raise NotFound(
                f"found no unlabelled images for {name[:80]!r}. Fix: POST images to /datasets/{name[:80]}/unlabelled",
                code="dataset_not_found",
            )

    def _require_image(self, name: str, digest: str) -> None:
        with self._database.read() as connection:
            if self._row(connection, name, digest) is None:
                raise _no_image(name)

    def _among(
        self,
        connection: sa.Connection,
        table: sa.Table,
        name: str,
        digests: Sequence[str],
        *where: sa.ColumnElement[bool],
    ) -> set[str]:
        """Those of the digests that have a row in the table. A pool may be large, so no others are read."""
        found: set[str] = set()
        for some in turns(digests):
            mine = table.c.dataset == name, table.c.digest.in_(some), *where
            found.update(connection.execute(sa.select(table.c.digest).where(*mine)).scalars())
        return found

    def _row(self, connection: sa.Connection, name: str, digest: str) -> sa.Row[tuple[object, ...]] | None:
        return connection.execute(
            image_table.select().where(_images.dataset == name, _images.digest == digest)
        ).one_or_none()

    def _live_leases(self, connection: sa.Connection, name: str) -> dict[str, str]:
        now = self._database.now(connection)
        query = sa.select(_leases.digest, _leases.who).where(_leases.dataset == name, _leases.until > now)
        return {row.digest: row.who for row in connection.execute(query)}

    def _check_room(self, connection: sa.Connection, more: int, more_bytes: int) -> None:
        images, size = connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_images.size_bytes), 0)).select_from(image_table)
        ).one()
        if images + more > self._limits.max_images or size + more_bytes > self._limits.max_bytes:
            raise StorageFull(
                f"found {images} images and {size} bytes in the pools, expected at most {self._limits.max_images} and "
                f"{self._limits.max_bytes}. {_MAKE_ROOM}"
            )


def _no_image(name: str) -> NotFound:
    return NotFound(
        f"found no such image in the pool of {name[:80]!r}. Fix: take the digest from POST /datasets/{{name}}/next",
        code="file_not_found",
    )


def _damaged(digest: str) -> Unusable:
    return Unusable(
        f"image {digest[:19]}...: its file is gone or damaged. Fix: send the image again", code="dataset_corrupt"
    )
