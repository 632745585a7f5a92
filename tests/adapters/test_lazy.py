"""Public names are imported when they are first used, and an unknown name is an AttributeError."""

from __future__ import annotations

import sys

import pytest

from lensmount_adapters.lazy import lazy_names


def test_a_name_is_imported_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "json.tool", raising=False)
    getter, names = lazy_names("json", {"tool": ["main"], "decoder": ["JSONDecoder"]})

    assert "json.tool" not in sys.modules
    assert names() == ["JSONDecoder", "main"]
    assert getter("main") is sys.modules["json.tool"].main


def test_an_unknown_name_is_an_attribute_error_of_the_package() -> None:
    getter, _ = lazy_names("json", {"decoder": ["JSONDecoder"]})

    with pytest.raises(AttributeError, match="module 'json' has no attribute 'loads'"):
        getter("loads")
