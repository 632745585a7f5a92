from __future__ import annotations

import pytest

from lensmount_client import AdapterId, AdapterMismatch, InvalidInput
from lensmount_client._reference import Reference, checked_name, checked_version

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("malaria", Reference("malaria")),
        ("malaria@3", Reference("malaria", version=3)),
        (f"malaria@{DIGEST}", Reference("malaria", digest=DIGEST)),
        ("malaria:prod", Reference("malaria", alias="prod")),
        ("9.a_b-c", Reference("9.a_b-c")),
    ],
)
def test_the_four_forms_of_a_reference(text: str, reference: Reference) -> None:
    assert Reference.parse(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Malaria",
            "a/b",
            "../x",
            ".x",
            "a@",
            "a@0",
            "a@03",
            "a@-1",
            "a@sha256:00",
            "a:",
            "a:B",
            "a:b:c",
            "a@1:b",
        ),
        *("a b", "a\n", "a?x=1", "x" * 65, f"a@{DIGEST.upper()}"),
    ],
)
def test_anything_else_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected name, name@3"):
        Reference.parse(text)


def test_several_names_in_one_string_are_refused_with_the_fix() -> None:
    with pytest.raises(InvalidInput, match=r"a list"):
        Reference.parse("malaria,smoking")


@pytest.mark.parametrize("text", ["other", "malaria@2", f"malaria@sha256:{'1b' * 32}"])
def test_another_adapter_than_the_requested_one_is_a_mismatch(text: str) -> None:
    with pytest.raises(AdapterMismatch, match=r"in the response, expected"):
        Reference.parse(text).check(AdapterId("malaria", 3, DIGEST), "r-1")


def test_the_requested_adapter_passes() -> None:
    for text in ("malaria", "malaria@3", f"malaria@{DIGEST}", "malaria:prod"):
        Reference.parse(text).check(AdapterId("malaria", 3, DIGEST), "r-1")


def test_names_and_versions_are_checked_alone_too() -> None:
    assert checked_name("a") == "a"
    assert checked_version(1) == 1
    with pytest.raises(InvalidInput, match=r"alias"):
        checked_name("A/B", "alias")
    for version in (0, -1, True, "1", 1.0):
        with pytest.raises(InvalidInput, match=r"version"):
            checked_version(version)  # type: ignore[arg-type]  # what an untyped caller passes
