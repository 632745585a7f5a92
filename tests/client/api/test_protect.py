from __future__ import annotations

import pytest

from lensmount_client._api.protect import content_digest, if_matches
from lensmount_client._errors import InvalidInput


def test_the_digest_is_that_of_the_example_in_rfc_9530() -> None:
    body = b'{"hello": "world"}\n'
    assert content_digest(body) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_what_must_be_there_is_a_quoted_digest_or_anything() -> None:
    digest = "sha256:" + "a" * 64
    assert if_matches(None) == {}
    assert if_matches(digest) == {"If-Match": f'"{digest}"'}
    assert if_matches("*") == {"If-Match": "*"}
    for wrong in ("", "v1", digest.upper(), f'"{digest}"'):
        with pytest.raises(InvalidInput, match="if_match"):
            if_matches(wrong)
