"""The rows of pools: images that wait for a label, the labels that people gave, and who looks at which image now."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.characters import refused_character
from lensmount_adapters.data.labels import check_label, check_labels
from lensmount_adapters.data.walk import bare
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs import formats
from lensmount_adapters.inputs.images import ImageLimits, decode_image, without_private_tags
from lensmount_service.store.database import metadata

_SUFFIXES = {
    formats.JPEG: ".jpg",
    formats.WEBP: ".webp",
    formats.TIFF: ".tif",
    formats.BMP: ".bmp",
    formats.GIF: ".gif",
    formats.JPEG2000: ".jp2",
    formats.AVIF: ".avif",
    formats.HEIF: ".heic",
}
"""Of the formats other than PNG."""
_TURN = 500

image_table = sa.Table(
    "pool_images",
    metadata,
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("suffix", sa.String(8), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("group_name", sa.String(256)),
    sa.Column("added_at", sa.Float, nullable=False),
    sa.Column("added_by", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(64)),  # the actor whose request added it; `added_by` is what that says of a person
    sa.Index("ix_pool_images_owner", "owner"),
)

label_table = sa.Table(
    "pool_labels",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("label", sa.String(256), nullable=False),
    sa.Column("who", sa.String(64), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("adapter", sa.String(224)),  # NAME@sha256:..., whose answer the person saw
    sa.Column("request_id", sa.String(64)),
    sa.Index("ix_pool_labels_image", "dataset", "digest"),
)

lease_table = sa.Table(
    "pool_leases",
    metadata,
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("who", sa.String(64), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class PoolImage:
    """One image of a pool. `digest` is that of the bytes as stored, without private tags."""

    digest: str
    suffix: str
    size_bytes: int
    group: str | None
    added_at: float
    added_by: str

    @property
    def path(self) -> str:
        """Where the image is in a version of the dataset."""
        return f"labelled/{self.digest.removeprefix('sha256:')}{self.suffix}"


@dataclass(frozen=True, slots=True)
class PoolLabel:
    """What one person said about one image. Labels are only ever added, so `number` is their order."""

    number: int
    digest: str
    label: str
    who: str
    at: float
    adapter: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """Where a label comes from, if it corrects an adapter's answer."""

    adapter: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image as a pool keeps it: without its private tags, and with the digest and the suffix of what is left."""

    data: bytes
    digest: str
    suffix: str


@dataclass(frozen=True, slots=True)
class PoolState:
    """What is in a pool. Images and labels are only ever added, so their numbers tell its states apart."""

    images: int
    size_bytes: int
    labels: int
    since: float  # when its first image came, in seconds since the epoch

    @property
    def tag(self) -> str:
        """The ETag of the pool."""
        return hashlib.sha256(f"{self.since} {self.images} {self.labels}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Decided:
    """What people agree on: one label for each image, and the images about which they do not agree."""

    labels: Mapping[str, str]
    disputed: tuple[str, ...]


def decided(labels: Iterable[PoolLabel]) -> Decided:
    """The label of most people for each image. Of one person, the latest label counts. A tie is disputed."""
    said: dict[str, dict[str, str]] = {}
    for each in sorted(labels, key=lambda label: label.number):
        said.setdefault(each.digest, {})[each.who] = each.label
    agreed: dict[str, str] = {}
    disputed = []
    for digest, by_person in said.items():
        first, *others = Counter(by_person.values()).most_common(2)
        if others and others[0][1] == first[1]:
            disputed.append(digest)
        else:
            agreed[digest] = first[0]
    return Decided(agreed, tuple(disputed))


def clean_group(group: str | None) -> str | None:
    """The group as a version of the dataset can have it, None if it is blank. Raises DatasetError."""
    group = bare(group or "")
    if found := refused_character(group):
        raise DatasetError(f"found {found}, in the group. Fix: write it in one line of plain text")
    return group or None


def check_labels_of(labels: Iterable[str]) -> None:
    """Raises DatasetError for the first label that cannot be the name of a class."""
    for label in dict.fromkeys(labels):
        if reason := check_label(label):
            raise DatasetError(f"{reason}, expected the name of a class. Fix: choose another label")
        if several := check_labels([label]):
            raise DatasetError(several[0])


def checked_image(data: bytes, limits: ImageLimits) -> CheckedImage:
    """Decode an image to see that it is one, and take its private tags out. Raises ImageError."""
    decoded = decode_image(data, limits)
    data = without_private_tags(data, decoded)
    suffix = _SUFFIXES.get(formats.recognise(data).name or formats.PNG, ".png")
    return CheckedImage(data, digest_of(data), suffix)


def state_of(connection: sa.Connection, name: str) -> PoolState | None:
    """None for a pool without images, which does not exist."""
    images, labels = image_table.c, label_table.c
    counted = sa.select(sa.func.count(), sa.func.sum(images.size_bytes), sa.func.min(images.added_at))
    count, size_bytes, since = connection.execute(counted.where(images.dataset == name)).one()
    if not count:
        return None
    said = sa.select(sa.func.count()).select_from(label_table).where(labels.dataset == name)
    return PoolState(count, int(size_bytes), connection.execute(said).scalar_one(), since)


def tag_of(connection: sa.Connection, name: str) -> str | None:
    """The ETag of a pool, None if there is no such pool."""
    state = state_of(connection, name)
    return None if state is None else state.tag


def image_of(row: sa.Row[tuple[object, ...]]) -> PoolImage:
    return PoolImage(row.digest, row.suffix, row.size_bytes, row.group_name, row.added_at, row.added_by)


def label_of(row: sa.Row[tuple[object, ...]]) -> PoolLabel:
    return PoolLabel(row.number, row.digest, row.label, row.who, row.at, row.adapter, row.request_id)


def columns_of(image: PoolImage) -> dict[str, object]:
    """The columns of an image's row, without that of the pool."""
    same = ("digest", "suffix", "size_bytes", "added_at", "added_by")
    return {**{column: getattr(image, column) for column in same}, "group_name": image.group}


def said_before(
    connection: sa.Connection, name: str, labels: Mapping[str, str], who: str, answered: Answered
) -> list[PoolLabel]:
    """The latest labels of a person for these images, if all of them say the same; otherwise nothing.

    So a write with If-Match whose answer was lost can be sent again, and changes nothing.
    """
    found: dict[str, PoolLabel] = {}
    columns = label_table.c
    for some in turns(list(labels)):
        mine = columns.dataset == name, columns.who == who, columns.digest.in_(some)
        for row in connection.execute(label_table.select().where(*mine).order_by(columns.number)):
            found[row.digest] = label_of(row)
    said = [found[digest] for digest, label in labels.items() if digest in found and found[digest].label == label]
    same = all((each.adapter, each.request_id) == (answered.adapter, answered.request_id) for each in said)
    return said if same and len(said) == len(labels) else []


def turns(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    """Few digests at a time: what fits into one query, and what one writer does before others get their turn."""
    return (digests[start : start + _TURN] for start in range(0, len(digests), _TURN))
