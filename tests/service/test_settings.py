from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from lensmount_service.settings import Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.org"])
def test_an_address_beyond_loopback_needs_a_token(host: str) -> None:
    with pytest.raises(ValidationError, match="expected a token"):
        Settings(host=host)
    assert Settings(host=host, token=SecretStr("secret")).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert Settings(host=host).token is None


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValidationError, match="empty token"):
        Settings(host="0.0.0.0", token=SecretStr(" "))


def test_variables_apply_where_no_flag_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_PORT", "9000")
    monkeypatch.setenv("LENSMOUNT_MAX_BATCH", "4")

    assert (Settings().port, Settings(port=1).port, Settings().max_batch) == (9000, 1, 4)


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings(token=SecretStr("secret")))
