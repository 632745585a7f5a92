"""Every tenant has keys of its own, and no name reaches another tenant's keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lensmount_service.store.keys import DEFAULT_TENANT, is_public, key_of, name_of, tenant_of

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
TENANTS = st.just(DEFAULT_TENANT) | st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)


@given(TENANTS, NAMES)
def test_a_key_tells_its_tenant_and_its_name(tenant: str, name: str) -> None:
    key = key_of(tenant, name)

    assert (tenant_of(key), name_of(key)) == (tenant, name)
    assert len(key) <= 128


@given(TENANTS, TENANTS, NAMES, st.text())
def test_no_text_of_one_tenant_is_the_key_of_another_s_name(one: str, other: str, name: str, text: str) -> None:
    if one != other:
        assert key_of(one, text) != key_of(other, name)
        assert key_of(one, f"{other}/{name}") != key_of(other, name)


def test_one_user_s_keys_are_the_plain_names() -> None:
    assert key_of(DEFAULT_TENANT, "malaria") == "malaria"
    assert is_public("public/malaria")
    assert not is_public("malaria")
