"""Images wait in a pool until people label them; nobody gets what another person holds; labels are never lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_service.errors import NotFound, StorageFull, Unavailable
from lensmount_service.pools.pools import PoolLimits, Pools
from lensmount_service.pools.rows import Answered
from lensmount_service.store.database import Database

if TYPE_CHECKING:
    from tests.service.conftest import Until

Images = Callable[..., dict[str, bytes]]


@pytest.fixture
def pools(database: Database, tmp_path: Path) -> Pools:
    return Pools(database, tmp_path / "pools")


@pytest.fixture
def digests(pools: Pools, images: Images) -> list[str]:
    return [pools.add("cells", data, "reader1")[0].digest for data in images(a=8).values()]


def test_an_image_is_kept_once_however_often_it_is_sent(pools: Pools, images: Images) -> None:
    (data,) = images(a=1).values()
    first, again = pools.add("cells", data, "reader1", "slide 1"), pools.add("cells", data, "reader2")

    assert (first[1], again[1]) == (True, False)
    assert again[0] == first[0]
    assert pools.read("cells", first[0].digest) == data


def test_what_is_no_image_is_refused_and_not_kept(pools: Pools, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        pools.add("cells", b"no image", "reader1")

    assert not list((tmp_path / "pools").glob("*"))


def test_a_full_pool_refuses_and_says_how_to_make_room(database: Database, tmp_path: Path, images: Images) -> None:
    pools = Pools(database, tmp_path / "pools", PoolLimits(max_images=2))
    one, two, three = images(a=3).values()
    pools.add("cells", one, "reader1")
    pools.add("other", two, "reader1")

    with pytest.raises(StorageFull, match=r"DELETE /datasets/{name}/unlabelled"):
        pools.add("cells", three, "reader1")
    pools.delete("other")

    assert pools.add("cells", three, "reader1")[1]


def test_several_images_are_one_change_and_keep_their_order(pools: Pools, images: Images) -> None:
    checked = [pools.checked(data) for data in images(a=5).values()]
    made = pools.add_all("cells", [*checked, checked[0]], "reader1", "slide 1")

    assert [new for _, new in made] == [True] * 5 + [False]  # the last one is the first one
    assert pools.images("cells") == [image for image, _ in made[:5]]
    tag = pools.state("cells").tag
    assert pools.add_all("cells", checked, "reader2") == [(image, False) for image, _ in made[:5]]
    assert pools.state("cells").tag == tag


def test_several_images_that_do_not_all_fit_are_all_refused(database: Database, tmp_path: Path, images: Images) -> None:
    pools = Pools(database, tmp_path / "pools", PoolLimits(max_images=2))
    checked = [pools.checked(data) for data in images(a=3).values()]

    with pytest.raises(StorageFull):
        pools.add_all("cells", checked, "reader1")
    with pytest.raises(NotFound):
        pools.state("cells")
    assert not list((tmp_path / "pools").glob("*"))


def test_each_state_of_a_pool_has_a_tag_of_its_own_also_after_it_was_deleted(pools: Pools, images: Images) -> None:
    one, two = images(a=2).values()
    tags = []
    for _ in range(2):
        digest = pools.add("cells", one, "reader1")[0].digest
        tags.append(pools.state("cells").tag)
        pools.label("cells", {digest: "a"}, "reader1")
        tags.append(pools.state("cells").tag)
        pools.add("cells", two, "reader1")
        tags.append(pools.state("cells").tag)
        pools.delete("cells")

    assert len(set(tags)) == 6


def test_two_people_never_hold_the_same_image(pools: Pools, digests: list[str]) -> None:
    got: dict[str, list[str]] = {}
    barrier = threading.Barrier(4)

    def take(who: str) -> None:
        barrier.wait()
        got[who] = [each for digest in digests for each in pools.lease("cells", [digest], who, 60)]

    threads = [threading.Thread(target=take, args=(who,)) for who in ("reader1", "reader2", "reader3", "reader4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    taken = [digest for each in got.values() for digest in each]
    assert sorted(taken) == sorted(digests)  # each once


def test_a_person_keeps_what_they_hold_and_others_see_the_rest(pools: Pools, digests: list[str]) -> None:
    pools.lease("cells", digests[:2], "reader1", 60)

    own, free, others = pools.free("cells", "reader1")
    assert (own, free, others) == (digests[:2], digests[2:], [])
    own, free, others = pools.free("cells", "reader2")
    assert (own, free, others) == ([], digests[2:], digests[:2])
    assert pools.lease("cells", digests[:2], "reader1", 60) == digests[:2]  # held for longer


def test_an_image_is_free_again_when_its_lease_is_over(pools: Pools, digests: list[str], until: Until) -> None:
    pools.lease("cells", digests, "reader1", 0.3)
    assert pools.free("cells", "reader2")[1] == []
    until(lambda: pools.free("cells", "reader2")[1] == digests)

    assert pools.lease("cells", digests[:1], "reader2", 60) == digests[:1]
    assert pools.lease("cells", digests[:1], "reader1", 60) == []


def test_a_labelled_image_is_proposed_to_nobody(pools: Pools, digests: list[str]) -> None:
    pools.label("cells", {digests[0]: "cat"}, "reader1")

    assert digests[0] not in pools.free("cells", "reader2")[1]
    assert pools.lease("cells", digests[:1], "reader2", 60) == []


def test_labels_are_only_added_and_say_who_and_when(pools: Pools, digests: list[str]) -> None:
    before = time.time()
    pools.label("cells", {digests[0]: "cat"}, "reader1")
    pools.label("cells", {digests[0]: "dog"}, "reader2")
    pools.label("cells", {digests[0]: "dog"}, "reader1")

    labels = pools.labels("cells")

    assert [(each.who, each.label) for each in labels] == [("reader1", "cat"), ("reader2", "dog"), ("reader1", "dog")]
    assert all(before <= each.at <= time.time() for each in labels)
    assert pools.labels("cells", after=labels[1].number) == labels[2:]


def test_labels_for_an_image_that_is_not_there_are_refused_as_a_whole(pools: Pools, digests: list[str]) -> None:
    with pytest.raises(NotFound, match="found 1 image"):
        pools.label("cells", {digests[0]: "cat", f"sha256:{'0' * 64}": "cat"}, "reader1")
    with pytest.raises(DatasetError, match="choose another label"):
        pools.label("cells", {digests[0]: " cat"}, "reader1")

    assert pools.labels("cells") == []


def test_a_label_survives_a_process_that_is_killed_right_after_it(
    pools: Pools, digests: list[str], tmp_path: Path, database_url: str | Path
) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from lensmount_service.store.database import Database; from lensmount_service.pools.pools import Pools\n"
        "url = sys.argv[1]; pools = Pools(Database(url if '://' in url else Path(url)), Path(sys.argv[2]))\n"
        "pools.label('cells', {sys.argv[3]: 'cat'}, 'reader1'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    arguments = [str(database_url), str(tmp_path / "pools"), digests[0]]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], check=False)

    assert ended.returncode == -9
    assert [each.label for each in pools.labels("cells")] == ["cat"]


def test_a_damaged_file_is_never_shown(pools: Pools, digests: list[str], tmp_path: Path) -> None:
    (tmp_path / "pools" / digests[0].removeprefix("sha256:")).write_bytes(b"other")

    with pytest.raises(Unavailable, match="send the image again"):
        pools.read("cells", digests[0])


def test_files_are_removed_only_once_the_pool_is_gone_for_good(
    pools: Pools, digests: list[str], tmp_path: Path
) -> None:
    """A pool is deleted even if a file cannot be removed then. A later start of the server removes the file."""
    blocked = tmp_path / "pools" / digests[3].removeprefix("sha256:")
    blocked.unlink()
    blocked.mkdir()  # a folder cannot be unlinked

    with pytest.raises(Unavailable):
        pools.delete("cells")

    with pytest.raises(NotFound):
        pools.images("cells")
    blocked.rmdir()
    pools.remove_orphans(0)
    assert not list((tmp_path / "pools").iterdir())


def test_deleting_a_pool_removes_its_files_unless_another_pool_has_them(
    pools: Pools, digests: list[str], tmp_path: Path, images: Images
) -> None:
    shared = next(iter(images(a=8).values()))
    pools.add("other", shared, "reader2")
    pools.label("cells", {digests[0]: "cat"}, "reader1")

    pools.delete("cells")

    assert len(list((tmp_path / "pools").iterdir())) == 1
    assert pools.labels("cells") == []
    with pytest.raises(NotFound, match="/datasets/cells/unlabelled"):
        pools.images("cells")


def test_a_file_without_a_row_is_removed_and_no_other(pools: Pools, digests: list[str], tmp_path: Path) -> None:
    (tmp_path / "pools" / ("0" * 64)).write_bytes(b"left by a crash")

    assert pools.remove_orphans(3600) == 0  # it may belong to a write in progress
    assert pools.remove_orphans(0) == 1
    assert [pools.read("cells", digest) for digest in digests]


def test_only_images_of_the_pool_are_reserved_however_many_are_wanted(pools: Pools, digests: list[str]) -> None:
    pools.label("cells", {digests[1]: "cat"}, "reader1")
    pools.lease("cells", digests[2:3], "reader2", 60)
    unknown = [f"sha256:{number:064x}" for number in range(1200)]

    assert pools.lease("cells", [*unknown, *digests[:3], digests[7]], "reader1", 60) == [
        digests[0],
        digests[7],
    ]
    with pytest.raises(NotFound, match="found 1200 image"):
        pools.label("cells", dict.fromkeys([*unknown, digests[0]], "cat"), "reader1")


def test_labels_are_bounded_and_the_refusal_says_how_to_make_room(
    database: Database, tmp_path: Path, images: Images
) -> None:
    pools = Pools(database, tmp_path / "pools", PoolLimits(max_labels=3))
    one, two = images(a=2).values()
    first, second = pools.add("cells", one, "reader1")[0].digest, pools.add("other", two, "reader1")[0].digest
    for label in ("a", "b", "a"):
        pools.label("cells", {first: label}, "reader1")

    with pytest.raises(StorageFull, match=r"found 3 labels.*DELETE /datasets/{name}/unlabelled"):
        pools.label("other", {second: "a"}, "reader1")
    with pytest.raises(StorageFull):
        pools.correct("third", one, "a", "reader1", Answered())
    assert pools.labels("other") == []
    with pytest.raises(NotFound):
        pools.images("third")
    pools.delete("cells")

    assert len(pools.label("other", {second: "a"}, "reader1")) == 1


def test_several_labels_in_one_text_are_refused_before_they_can_keep_a_version_from_being_made(
    pools: Pools, digests: list[str], images: Images
) -> None:
    with pytest.raises(DatasetError, match="Fix: keep one label of each image"):
        pools.label("cells", {digests[0]: "a", digests[1]: "infected|ring"}, "reader1")
    with pytest.raises(DatasetError, match="Fix: keep one label of each image"):
        pools.correct("cells", images(a=1)["a/0.png"], "infected|ring", "reader1", Answered())

    assert pools.labels("cells") == []
