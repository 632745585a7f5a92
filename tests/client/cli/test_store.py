"""The group `lensmount store` has the commands of the server's package."""

from __future__ import annotations

from typing import Any


def test_the_help_lists_the_commands_with_a_line_each(lensmount: Any) -> None:
    code, out, _ = lensmount("store", "--help")
    assert code == 0
    assert "check" in out
    assert "recover" in out
    assert "Changes nothing." in out
