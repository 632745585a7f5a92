"""A public name belongs to who takes it first, until it is given up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lensmount_service.errors import Forbidden, NameTaken, NotFound, RequestInvalid
from lensmount_service.store.database import Database
from lensmount_service.store.shares import Shares


@pytest.fixture
def shares(reopen: Callable[[], Database]) -> Shares:
    return Shares(reopen())


def test_a_public_name_stands_for_a_key_until_it_is_given_up(shares: Shares) -> None:
    made = shares.add("adapter", "malaria", "lab1/cells", "boss")

    assert made.public_name == "public/malaria"
    assert shares.key("adapter", "public/malaria") == "lab1/cells"
    assert shares.list("adapter") == [made]
    assert shares.list("dataset") == []
    assert shares.end("adapter", "lab1/cells") == 1
    assert shares.end("adapter", "lab1/cells") == 0
    with pytest.raises(NotFound) as missing:
        shares.key("adapter", "public/malaria")
    assert missing.value.code == "adapter_not_found"
    assert shares.was_ever("adapter", "lab1/cells")
    assert not shares.was_ever("adapter", "lab2/cells")


def test_a_public_name_that_is_taken_is_refused_and_another_one_helps(shares: Shares) -> None:
    made = shares.add("adapter", "malaria", "lab1/cells", "boss")

    assert shares.add("adapter", "public/malaria", "lab1/cells", "boss") == made
    with pytest.raises(NameTaken, match="Fix: share it under another name") as taken:
        shares.add("adapter", "malaria", "lab2/cells", "boss")
    assert "lab1" not in str(taken.value)
    assert shares.add("adapter", "malaria2", "lab2/cells", "boss").key == "lab2/cells"
    assert shares.add("dataset", "malaria", "lab2/cells", "boss").kind == "dataset"
    shares.end("adapter", "lab1/cells")
    assert shares.add("adapter", "malaria", "lab2/cells", "boss").key == "lab2/cells"


def test_a_mistyped_public_name_suggests_public_names_only(shares: Shares) -> None:
    shares.add("adapter", "malaria", "lab1/secret", "boss")

    with pytest.raises(NotFound, match=r"Did you mean 'public/malaria'\?") as missing:
        shares.key("adapter", "public/malarja")
    assert "secret" not in str(missing.value)


def test_another_process_s_share_is_seen_at_the_next_request(shares: Shares, reopen: Callable[[], Database]) -> None:
    other = Shares(reopen())
    shares.add("adapter", "malaria", "lab1/cells", "boss")
    assert other.key("adapter", "public/malaria") == "lab1/cells"
    assert other.key_cached("adapter", "public/malaria") in ("lab1/cells", None)  # None with PostgreSQL

    shares.end("adapter", "lab1/cells")

    assert other.key_cached("adapter", "public/malaria") is None
    with pytest.raises(NotFound):
        other.key("adapter", "public/malaria")


@pytest.mark.parametrize("name", ["Malaria", "a/b", "", "default"])
def test_a_public_name_follows_the_rule_of_names(shares: Shares, name: str) -> None:
    with pytest.raises((RequestInvalid, Forbidden)):
        shares.add("adapter", name, "lab1/cells", "boss")
