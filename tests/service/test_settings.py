from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from lensmount_service.settings import Settings


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValidationError, match="empty token"):
        Settings(host="0.0.0.0", token=SecretStr(" "))


def test_variables_apply_where_no_flag_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_PORT", "9000")
    monkeypatch.setenv("LENSMOUNT_MAX_BATCH", "4")

    assert (Settings().port, Settings(port=1).port, Settings().max_batch) == (9000, 1, 4)


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings(token=SecretStr("secret")))


@pytest.mark.parametrize("url", ["http://login.example", "ftp://login.example", "file:///etc/passwd", "login.example"])
def test_an_identity_provider_is_reached_safely(url: str) -> None:
    for name in ("oidc_issuer", "oidc_jwks_url"):
        with pytest.raises(ValidationError, match="expected https://"):
            Settings(**{name: url})  # type: ignore[arg-type]  # of a table
    assert Settings(oidc_issuer="https://login.example", oidc_jwks_url="http://127.0.0.1:1/keys").oidc_issuer


def test_the_mapping_of_scopes_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_OIDC_SCOPES", '{"readers": "predict"}')

    assert Settings().oidc_scopes == {"readers": "predict"}


def test_the_largest_body_always_fits_into_the_bytes_that_may_be_held() -> None:
    assert Settings().held_bytes() == 512 * 2**20
    assert Settings(max_request_bytes=2**30).held_bytes() == 2**31
