from __future__ import annotations

import time

import pytest

from lensmount_service.access.grants import granted_quotas, require_lifetime, tenant_of
from lensmount_service.access.identity import FIRST_ADMIN, Identity, Quotas
from lensmount_service.errors import Forbidden, RequestInvalid

LAB_ADMIN = Identity("reader1", "k", frozenset({"admin"}), "lab")


def test_an_administrator_acts_in_the_own_tenant_and_an_operator_in_any() -> None:
    assert tenant_of(LAB_ADMIN, None) == tenant_of(LAB_ADMIN, "lab") == tenant_of(FIRST_ADMIN, "lab") == "lab"
    assert tenant_of(FIRST_ADMIN, None) == "default"
    with pytest.raises(Forbidden, match="leave the tenant out"):
        tenant_of(LAB_ADMIN, "other")
    with pytest.raises(RequestInvalid):
        tenant_of(FIRST_ADMIN, "../lab")


def test_a_token_that_expires_gives_no_longer_life_than_its_own() -> None:
    ends = Identity("reader1", "k", frozenset({"admin"}), "lab", expires_at=time.time() + 1000)

    require_lifetime(LAB_ADMIN, 1e6)
    require_lifetime(ends, 900.0)
    require_lifetime(ends, None)
    with pytest.raises(Forbidden, match="leave the lifetime out"):
        require_lifetime(ends, 1100.0)


def test_a_limited_token_gives_its_own_limits_or_smaller_ones() -> None:
    limited = Identity("reader1", "k", frozenset({"admin"}), "lab", Quotas(requests_per_minute=10, queue_share=0.5))

    assert granted_quotas(LAB_ADMIN, Quotas(stored_bytes=5)) == Quotas(stored_bytes=5)
    assert granted_quotas(limited, Quotas()) == limited.quotas
    assert granted_quotas(limited, Quotas(requests_per_minute=3)) == Quotas(requests_per_minute=3, queue_share=0.5)
    with pytest.raises(Forbidden, match=r"found 11, expected at most the own token's limit 10.*leave requests"):
        granted_quotas(limited, Quotas(requests_per_minute=11))
