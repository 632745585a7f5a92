"""Which tests run: the marks soak, gpu, slow, browser and postgresql. slow.py lists what is slow.

conftest.py registers this file as a plugin. It asks for markers, not keywords: keywords include folder names, and a
checkout may lie in a folder named gpu.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePosixPath

import pytest
from tests.slow import LONGEST, SLOW

TESTS = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that is slow as a whole is not even imported where no slow test may run."""
    if "not slow" in str(config.getoption("markexpr")) and _is_slow(_relative(collection_path)):
        return True
    return None


@pytest.hookimpl(tryfirst=True)  # before pytest takes out what -m does not ask for
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Soak tests run only with `-m soak`, and gpu tests only on a CUDA device. The longest files come first."""
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(_relative(item.path), len(place)))
    asked_for_soak = "soak" in str(config.getoption("markexpr")).replace("not soak", "")
    for item in items:
        file = _relative(item.path)
        if _is_slow(file) or f"{file}::{getattr(item, 'originalname', item.name)}" in SLOW:
            item.add_marker(pytest.mark.slow)
        if "chromium" in _fixtures(item):
            item.add_marker(pytest.mark.browser)
        if "postgresql" in {*_fixtures(item), *_parameters(item)}:
            item.add_marker(pytest.mark.postgresql)
        if item.get_closest_marker("soak") and not asked_for_soak:
            item.add_marker(pytest.mark.skip(reason="full-length run: pytest -m soak"))
        if item.get_closest_marker("gpu") and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@cache
def _is_slow(path: str) -> bool:
    return path in SLOW or any(folder.as_posix() in SLOW for folder in PurePosixPath(path).parents)


@cache  # thousands of tests are in hundreds of files
def _relative(path: Path) -> str:
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else path.as_posix()


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _parameters(item: pytest.Item) -> set[str]:
    call = getattr(item, "callspec", None)
    return {value for value in call.params.values() if isinstance(value, str)} if call else set()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
