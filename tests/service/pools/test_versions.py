"""A version has what people agree on; labels that cannot be classes are refused with the images that have them."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_service.errors import Unavailable
from lensmount_service.pools.pools import Pools
from lensmount_service.pools.rows import Answered
from lensmount_service.pools.versions import publish_pool
from lensmount_service.store.database import Database
from lensmount_service.store.datasets import DatasetStore

Images = Callable[..., dict[str, bytes]]


@pytest.fixture
def pools(database: Database, tmp_path: Path) -> Pools:
    return Pools(database, tmp_path / "pools")


def manifest(store: DatasetStore, name: str) -> dict[str, tuple[str, str | None]]:
    with store.open(store.get(name)) as file, zipfile.ZipFile(io.BytesIO(file.read())) as archive:
        rows = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
    return {row["path"]: (row["label"], row["group"]) for row in rows}


def test_a_version_has_the_labelled_images_with_the_label_of_most_people(
    database: Database, tmp_path: Path, images: Images
) -> None:
    (tmp_path / "datasets").mkdir()
    store = DatasetStore(database, tmp_path / "datasets")
    pools = Pools(database, tmp_path / "pools")
    added = [pools.add("cells", data, "reader1", "slide 7")[0] for data in images(a=9).values()]
    digests = [image.digest for image in added]
    pools.label("cells", {digest: "cat" if index % 2 else "dog" for index, digest in enumerate(digests[:8])}, "reader1")
    pools.label("cells", {digests[0]: "cat", digests[1]: "dog"}, "reader2")
    pools.label("cells", {digests[0]: "cat"}, "reader3")

    dataset, created, agreed = publish_pool(pools, "cells", store, None)

    assert created
    assert agreed.disputed == (digests[1],)  # one for cat, one for dog
    assert dataset.classes == {"cat": 4, "dog": 3}
    rows = manifest(store, "cells")
    assert rows[added[0].path] == ("cat", "slide 7")
    assert added[1].path not in rows
    assert added[8].path not in rows  # without a label
    assert publish_pool(pools, "cells", store, dataset)[1] is False  # nothing new


def test_an_image_that_the_base_already_has_gets_its_new_label_there(
    database: Database, tmp_path: Path, images: Images, zipped: Callable[..., bytes]
) -> None:
    (tmp_path / "datasets").mkdir()
    store = DatasetStore(database, tmp_path / "datasets")
    pools = Pools(database, tmp_path / "pools")
    files = images(a=4, b=4)
    path = tmp_path / "cells.zip"
    path.write_bytes(zipped(files))
    base, _ = store.admit("cells", path, f"sha256:{'1' * 64}")
    pools.correct("cells-feedback", files["a/0.png"], "b", "reader1", Answered("task@1", "0" * 32))

    dataset, *_ = publish_pool(pools, "cells-feedback", store, base)

    rows = manifest(store, "cells-feedback")
    assert (dataset.images, rows["a/0.png"][0]) == (8, "b")
    assert manifest(store, "cells")["a/0.png"][0] == "a"  # the base stays


def test_a_damaged_image_that_is_sent_again_is_whole_again(
    database: Database, tmp_path: Path, pools: Pools, images: Images
) -> None:
    (tmp_path / "datasets").mkdir()
    store = DatasetStore(database, tmp_path / "datasets")
    data = list(images(a=8).values())
    digests = [pools.add("cells", each, "reader1")[0].digest for each in data]
    pools.label("cells", {digest: "ab"[index % 2] for index, digest in enumerate(digests)}, "reader1")
    (tmp_path / "pools" / digests[0].removeprefix("sha256:")).write_bytes(data[1])  # an image, but another one
    (tmp_path / "pools" / digests[2].removeprefix("sha256:")).unlink()

    with pytest.raises(Unavailable, match="send the image again"):
        publish_pool(pools, "cells", store, None)
    for index in (0, 2):
        assert not pools.add("cells", data[index], "reader2")[1]

    assert [pools.read("cells", digest) for digest in digests] == data
    assert publish_pool(pools, "cells", store, None)[0].images == 8


@pytest.mark.parametrize("group", ["a\x00b", "a\nb", "\x7f", "=1+1", " slide 7\r\n", " ", "\u2028", "../.."])
def test_a_group_is_refused_at_once_or_never_keeps_a_version_from_being_made(
    database: Database, tmp_path: Path, images: Images, group: str
) -> None:
    (tmp_path / "datasets").mkdir()
    store = DatasetStore(database, tmp_path / "datasets")
    pools = Pools(database, tmp_path / "pools")
    digests = []
    for data in images(a=8).values():
        try:
            image = pools.add("cells", data, "reader1", group)[0]
        except DatasetError:  # "write it in one line of plain text"
            image = pools.add("cells", data, "reader1", repr(group))[0]
        digests.append(image.digest)
    pools.label("cells", {digest: "ab"[index % 2] for index, digest in enumerate(digests)}, "reader1")

    made, *_ = publish_pool(pools, "cells", store, None)

    assert publish_pool(pools, "cells", store, made)[:2] == (made, False)  # its groups are read as they were written


def test_labels_that_look_alike_are_refused_with_their_images_and_the_way_that_is_named_works(
    database: Database, tmp_path: Path, pools: Pools, images: Images
) -> None:
    (tmp_path / "datasets").mkdir()
    store = DatasetStore(database, tmp_path / "datasets")
    digests = [pools.add("cells", data, "reader1")[0].digest for data in images(a=9).values()]
    spelled = dict(zip(digests, ["cat"] * 4 + ["dog"] * 4 + ["Dog"], strict=True))
    pools.label("cells", spelled, "reader1")

    with pytest.raises(DatasetError, match="found the label") as refused:
        publish_pool(pools, "cells", store, None)

    assert "POST /datasets/cells/labels" in str(refused.value)
    named = re.findall(r"sha256:[0-9a-f]{64}", str(refused.value))
    assert all(spelled[digest].lower() == "dog" for digest in named)
    assert digests[8] in named
    pools.label("cells", {digests[8]: "dog"}, "reader1")
    assert publish_pool(pools, "cells", store, None)[0].classes == {"cat": 4, "dog": 5}
