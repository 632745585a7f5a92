"""TorchInductor's cache: its folder is in the environment while it compiles, and what was there before comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lensmount_adapters.programs.inductor_cache import CACHE_VARIABLE, in_cache


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_the_variable_is_restored_also_after_an_error(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(CACHE_VARIABLE, before)

    def compile_it() -> None:
        with in_cache(tmp_path):
            assert os.environ[CACHE_VARIABLE] == str(tmp_path / "inductor")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        compile_it()
    assert os.environ.get(CACHE_VARIABLE) == before


def test_without_a_folder_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    with in_cache(None):
        assert CACHE_VARIABLE not in os.environ
