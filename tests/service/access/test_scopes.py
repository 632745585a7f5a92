from __future__ import annotations

import pytest

from lensmount_service.access.scopes import parse_scopes
from lensmount_service.errors import RequestInvalid


def test_scopes_are_read_from_a_list() -> None:
    assert parse_scopes("predict, upload") == {"predict", "upload"}


@pytest.mark.parametrize("text", ["", ",", "root", "predict,root", "Predict"])
def test_anything_else_is_refused_and_the_scopes_are_named(text: str) -> None:
    with pytest.raises(RequestInvalid, match=r"expected some of predict, upload, train, admin. Fix: --scopes predict"):
        parse_scopes(text)
