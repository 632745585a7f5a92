"""Regular expressions of users: compiled, or refused in one line."""

from __future__ import annotations

import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.patterns import compile_pattern


def test_an_expression_is_compiled_and_none_stays_none() -> None:
    pattern = compile_pattern(r"^(s\d+)_", DatasetError)

    assert pattern is not None
    assert pattern.search("s12_3.png")
    assert compile_pattern(None, DatasetError) is None


@pytest.mark.parametrize("expression", ["(", "[a", "a{2,1}", "(?P<x", "*", "(?P<a>x)(?P<a>y)", "a{99999999999}"])
def test_a_bad_expression_raises_the_caller_s_error_with_the_option(expression: str) -> None:
    with pytest.raises(DatasetError, match=r"^--group-regex: found .*, which is not a regular expression \(.*Fix: "):
        compile_pattern(expression, DatasetError, "--group-regex")


def test_a_long_expression_is_shortened_in_the_message() -> None:
    with pytest.raises(ValueError, match="not a regular expression") as caught:
        compile_pattern("(" * 50_000, ValueError)

    assert len(str(caught.value)) < 400
