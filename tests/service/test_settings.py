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
