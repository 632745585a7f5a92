"""The names of number formats: float32, bfloat16 and float16, and their short aliases."""

from __future__ import annotations

FLOAT32, BFLOAT16, FLOAT16 = "float32", "bfloat16", "float16"
WORDS = (FLOAT32, BFLOAT16, FLOAT16)
TF32 = "tf32"  # arithmetic of CUDA GPUs, not a format: float32 whose convolutions keep 10 bits of mantissa
ALIASES = {"fp32": FLOAT32, "bf16": BFLOAT16, "fp16": FLOAT16}  # still found in older files, recipes and jobs


def full_word(word: str) -> str:
    """Expand an alias: "bf16" becomes "bfloat16"; any other word is returned unchanged."""
    return ALIASES.get(word, word)
