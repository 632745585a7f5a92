"""The words for number formats: float32, bfloat16, float16, and the short words that mean the same."""

from __future__ import annotations

FLOAT32, BFLOAT16, FLOAT16 = "float32", "bfloat16", "float16"
WORDS = (FLOAT32, BFLOAT16, FLOAT16)
ALIASES = {"fp32": FLOAT32, "bf16": BFLOAT16, "fp16": FLOAT16}  # older files, recipes and jobs hold them


def full_word(word: str) -> str:
    """ "bf16" -> "bfloat16"; any other word stays as it is."""
    return ALIASES.get(word, word)
