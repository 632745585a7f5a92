"""Text from files and servers, made safe for a terminal."""

from __future__ import annotations

from lensmount_client._show.text import printable


def test_nothing_that_moves_a_cursor_is_printed() -> None:
    assert printable("a\x1b[2J\r\nb") == "a\N{REPLACEMENT CHARACTER}[2J" + "\N{REPLACEMENT CHARACTER}" * 2 + "b"
