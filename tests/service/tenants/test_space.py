"""Names become keys on the way in, and errors name what the caller named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lensmount_service.access.identity import LOOPBACK
from lensmount_service.errors import Forbidden, NotFound
from lensmount_service.store.database import Database
from lensmount_service.store.shares import Shares
from lensmount_service.tenants.space import Space, in_words


@pytest.fixture
def space(reopen: Callable[[], Database]) -> Space:
    shares = Shares(reopen())
    shares.add("adapter", "malaria", "lab2/secret", None)
    shares.add("adapter", "typhoid", "plain", None)
    return Space(replace(LOOPBACK, tenant="lab1"), shares)


def test_a_name_stands_for_the_tenant_s_own_key_and_a_public_name_for_its_owner_s(space: Space) -> None:
    assert space.key("adapter", "cells") == "lab1/cells"
    assert space.key("adapter", "public/malaria") == "lab2/secret"
    assert space.key_cached("adapter", "cells") == "lab1/cells"
    assert space.key_cached("dataset", "public/malaria") is None


def test_what_is_public_cannot_be_changed_and_an_own_name_can(space: Space) -> None:
    with pytest.raises(Forbidden, match="Fix: choose a name of your own") as refused, space.own("public/malaria"):
        pass
    assert refused.value.code == "public_read_only"
    with space.own("malaria") as key:
        assert key == "lab1/malaria"


@pytest.mark.parametrize(("name", "key"), [("cells", "lab1/cells"), ("public/malaria", "lab2/secret")])
def test_an_error_names_what_the_caller_named(space: Space, name: str, key: str) -> None:
    with pytest.raises(NotFound, match=f"no version 7 of '{name}'") as missing, space.reading("adapter", name) as found:
        raise NotFound(f"found no version 7 of {found!r}", code="version_not_found")
    assert key not in str(missing.value)
    assert missing.value.code == "version_not_found"


def test_a_plain_key_is_replaced_only_in_quotes_paths_and_references() -> None:
    assert (
        in_words("plain@2 of explain@2: a plain text", "plain", "public/b") == "public/b@2 of explain@2: a plain text"
    )
    assert (
        in_words("a plain POST /adapters/plain/undelete", "plain", "public/b")
        == "a plain POST /adapters/public/b/undelete"
    )
    assert (
        in_words("found a plain text of 'plain'", "plain", "public/typhoid") == "found a plain text of 'public/typhoid'"
    )
    assert in_words(f"no {'lab1/' + chr(10)!r}", "lab1/\n", "\n") == "no '\\n'"
