"""Prompts read from TOML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lensmount_adapters.errors import TrainingError
from lensmount_adapters.text.prompts import read_prompts

WRONG = {
    "no braces": ('templates = ["a photo"]\n[classes]\na = ["b"]', "templates.0"),
    "no classes": ('templates = ["{}"]', "classes: Field required"),
    "an empty class": ('templates = ["{}"]\n[classes]\na = []', "classes.a"),
    "another key": ('templates = ["{}"]\nscale = 3\n[classes]\na = ["b"]', "scale"),
    "invalid TOML": ("templates", "found invalid TOML"),
    "too many texts": (
        f"templates = {json.dumps(['{}'] * 1000)}\n[classes]\na = {json.dumps(['b'] * 101)}",
        "found 101000 texts .* expected at most 100000",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_prompts_are_refused_with_the_first_wrong_key(case: str, tmp_path: Path) -> None:
    text, message = WRONG[case]
    (tmp_path / "prompts.toml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_prompts(tmp_path / "prompts.toml")
