"""A version of a dataset, made of the labelled images of a pool and, if there is one, of an earlier version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from lensmount_adapters.data.dataset import Labelled, Listed
from lensmount_adapters.data.dataset_archive import MANIFEST
from lensmount_adapters.data.labels import check_labels
from lensmount_adapters.data.source import Listing, Source
from lensmount_adapters.errors import DatasetError
from lensmount_service.pools.pools import Pools
from lensmount_service.pools.rows import Decided, PoolImage, decided
from lensmount_service.store.datasets import Dataset, DatasetStore
from lensmount_service.store.precondition import ANY, Precondition

_NAMED = 3  # images that a message names


def publish_pool(
    pools: Pools,
    name: str,
    datasets: DatasetStore,
    base: Dataset | None,
    owner: str | None = None,
    expected: Precondition = ANY,
) -> tuple[Dataset, bool, Decided]:
    """Make a version of `base` and the labelled images. Disputed images stay out. Returns what `admit` does.

    A labelled image that `base` already has gets its new label there. `expected` is about the dataset. Raises NotFound,
    DatasetError, PreconditionFailed.
    """
    agreed = decided(pools.labels(name))
    images = {image.digest: image for image in pools.images(name) if image.digest in agreed.labels}
    read = partial(pools.read, name)
    listed = _listed(name, images, agreed, None if base is None else datasets.listed(base), read)
    return *datasets.add_version(name, listed, owner, expected), agreed


def _listed(
    name: str, images: Mapping[str, PoolImage], agreed: Decided, base: Listed | None, read: Callable[[str], bytes]
) -> Listed:
    files = {} if base is None else {file.path: file for file in base.files}
    known = {} if base is None else _paths_by_digest(base)
    added: dict[str, PoolImage] = {}
    for digest, image in images.items():
        label = agreed.labels[digest]
        path = known.get(digest.removeprefix("sha256:"))
        if path is not None and path in files:
            files[path] = replace(files[path], label=label)
        else:
            files[image.path] = Labelled(image.path, label, image.group or None)
            added[image.path] = image
    classes = tuple(sorted({file.label for file in files.values()}))
    if alike := check_labels(classes):
        raise DatasetError(_how_to_relabel(name, alike, {digest: agreed.labels[digest] for digest in images}))
    ordered = sorted(files.values(), key=lambda file: (file.label, file.path))
    source = _WithPool(None if base is None else base.source, added, read, name)
    return Listed(source, classes, tuple(ordered), (), ())


def _how_to_relabel(name: str, alike: tuple[str, str, str], labels: Mapping[str, str]) -> str:
    """The message for labels that cannot be classes together, with the images of the one that fewer images have."""
    reason, *words = alike
    of_each = [[digest for digest, label in labels.items() if label == word] for word in words]
    having = min(filter(None, of_each), key=len, default=[])
    found = " and ".join(repr(word[:80]) for word in dict.fromkeys(words))
    named = ", ".join(having[:_NAMED]) + (f" and {len(having) - _NAMED} more" if len(having) > _NAMED else "")
    return f"found the label(s) {found}: {reason} (POST /datasets/{name}/labels takes another label for {named})"


@dataclass(frozen=True, slots=True)
class _WithPool:
    """The files of a version, if there is one, and files of a pool by the paths that they get."""

    base: Source | None
    added: Mapping[str, PoolImage]
    read_added: Callable[[str], bytes]  # by digest
    title: str

    def list(self) -> Listing:
        return Listing(tuple(sorted(self.added)), (), ())

    def has(self, path: str) -> bool:
        return path in self.added or (self.base is not None and self.base.has(path))

    def size(self, path: str) -> int:
        return self.added[path].size_bytes if path in self.added else self._base.size(path)

    def read(self, path: str) -> bytes:
        return self.read_added(self.added[path].digest) if path in self.added else self._base.read(path)

    def below(self, prefix: str) -> Source:
        raise NotImplementedError(prefix)

    @property
    def _base(self) -> Source:
        if self.base is None:
            raise FileNotFoundError(self.title)
        return self.base


def _paths_by_digest(base: Listed) -> dict[str, str]:
    rows = (json.loads(line) for line in base.source.read(MANIFEST).splitlines())
    return {row["sha256"].removeprefix("sha256:"): row["path"] for row in rows}
