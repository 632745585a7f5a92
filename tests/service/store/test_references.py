"""How requests name adapters; tests/test_client_and_server_agree.py compares the grammar with the client's."""

from __future__ import annotations

import pytest

from lensmount_service.errors import RequestInvalid
from lensmount_service.store.references import Reference, parse_references, require_name

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("malaria", Reference("malaria")),
        ("malaria@3", Reference("malaria", version=3)),
        (f"malaria@{DIGEST}", Reference("malaria", digest=DIGEST)),
        ("malaria:prod", Reference("malaria", alias="prod")),
    ],
)
def test_a_reference_is_a_name_alone_or_with_a_version_a_digest_or_an_alias(text: str, reference: Reference) -> None:
    assert Reference.parse(text) == reference


def test_a_long_text_that_is_no_reference_is_repeated_only_in_part() -> None:
    with pytest.raises(RequestInvalid) as refused:
        Reference.parse("A" * 10_000)
    assert refused.value.code == "invalid_reference"
    assert len(str(refused.value)) < 250


def test_a_list_of_references_keeps_its_order_and_may_have_spaces() -> None:
    assert parse_references("cells, tiles@2 ,cells", 3) == [
        Reference("cells"),
        Reference("tiles", version=2),
        Reference("cells"),
    ]


def test_one_reference_too_many_and_an_empty_one_are_refused() -> None:
    with pytest.raises(RequestInvalid, match="found more than 2 adapters in one request, expected at most 2"):
        parse_references("a,b,c", 2)
    with pytest.raises(RequestInvalid) as refused:
        parse_references("a,,b", 3)
    assert refused.value.code == "invalid_reference"


def test_a_reserved_or_malformed_name_is_refused_and_says_what_it_is_for() -> None:
    assert require_name("malaria") == "malaria"
    for name in ("latest", "A", ""):
        with pytest.raises(RequestInvalid, match="found the alias ") as refused:
            require_name(name, "alias")
        assert refused.value.code == "invalid_name"
