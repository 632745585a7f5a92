from __future__ import annotations

from datetime import UTC, datetime

from lensmount_client import Quotas, Token, TokenSecret


def test_a_secret_is_not_printed_with_its_token() -> None:
    token = Token("reader1", "lab", ("predict",), datetime(2026, 1, 1, tzinfo=UTC), None, Quotas())

    assert "lm_secret" not in repr(TokenSecret(token, "lm_secret"))
