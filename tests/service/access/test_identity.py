from __future__ import annotations

import pytest

from lensmount_service.access.identity import FIRST_ADMIN, Identity, require_tenant
from lensmount_service.access.scopes import SCOPES
from lensmount_service.errors import RequestInvalid


def test_the_scope_admin_includes_the_others() -> None:
    admin = Identity("reader1", "1", frozenset({"admin"}))

    assert all(admin.may(scope) for scope in SCOPES)
    assert not Identity("reader1", "1", frozenset({"predict"})).may("upload")


def test_only_an_administrator_of_the_default_tenant_runs_the_server() -> None:
    assert FIRST_ADMIN.is_operator
    assert not Identity("reader1", "1", frozenset({"admin"}), "lab1").is_operator
    assert not Identity("reader1", "1", frozenset({"upload", "train"})).is_operator


@pytest.mark.parametrize("name", ["", "Lab", "lab/1", "public", "a" * 32, "-lab", "lab\n", "läb"])
def test_a_tenant_has_a_plain_name(name: str) -> None:
    with pytest.raises(RequestInvalid, match="Fix: --tenant lab1"):
        require_tenant(name)

    assert require_tenant("lab1") == "lab1"
