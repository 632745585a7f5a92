from __future__ import annotations

from lensmount_service.access.policy import POLICY
from lensmount_service.access.scopes import SCOPES


def test_every_need_is_a_scope_or_one_of_two_words() -> None:
    assert set(POLICY.values()) <= {*SCOPES, "operator", "any"}


def test_nothing_that_changes_something_is_allowed_to_every_token() -> None:
    reads = ("POST", "/v2/repository/index")  # whose method is that of the protocol
    assert [key for key, need in POLICY.items() if need == "any" and key[0] != "GET"] == [reads]
