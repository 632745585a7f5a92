from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from lensmount_service.access.audit import Record
from lensmount_service.access.identity import Quotas
from lensmount_service.access.tokens import Token
from lensmount_service.web.token_schemas import AuditRecord, NewToken, QuotaLimits, TokenInfo


def test_a_token_is_shown_with_sorted_scopes_and_times_that_say_their_zone() -> None:
    token = Token("id", "reader1", "lab", frozenset({"upload", "predict"}), 0.0, 86_400.0, Quotas(queued_jobs=3))

    shown = TokenInfo.model_validate(token).model_dump(mode="json", exclude_none=True)

    assert shown == {
        **{"name": "reader1", "tenant": "lab", "scopes": ["predict", "upload"], "quotas": {"queued_jobs": 3}},
        **{"created_at": "1970-01-01T00:00:00Z", "expires_at": "1970-01-02T00:00:00Z"},
    }
    assert TokenInfo.model_validate(token).created_at == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"lifetime_s": value} for value in (0, -1, 1e300, float("inf"), float("nan"), "1")),
        *({"quotas": {"requests_per_minute": value}} for value in (0, -1, 10**16, 1.5, True)),
        *({"quotas": {"queue_share": value}} for value in (0, 1.5, float("nan"))),
        *({"quotas": {"requests": 1}}, {"more": 1}, {"name": 1}, {"scopes": "predict"}, {"tenant": 1}),
    ],
)
def test_anything_but_a_token_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NewToken.model_validate({"name": "reader1", "scopes": ["predict"], **wrong})


def test_the_limits_are_those_of_a_token() -> None:
    assert set(QuotaLimits.model_fields) == set(Quotas.__slots__)


def test_a_record_of_the_audit_log_is_shown_with_all_its_fields() -> None:
    assert AuditRecord.model_fields.keys() == Record.__dataclass_fields__.keys()
