"""Number formats have one word each; short aliases are expanded and everything else is left alone."""

from __future__ import annotations

import pytest

from lensmount_adapters.dtypes import full_word


@pytest.mark.parametrize(("short", "word"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_an_alias_becomes_the_full_word(short: str, word: str) -> None:
    assert full_word(short) == full_word(word) == word


@pytest.mark.parametrize("word", ["float64", "FP32", "", "auto"])
def test_any_other_word_is_returned_unchanged(word: str) -> None:
    assert full_word(word) == word
