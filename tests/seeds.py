"""A test draws the same numbers alone, in any order and in any process. conftest.py registers this file as a plugin."""

from __future__ import annotations

import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
