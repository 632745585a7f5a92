"""Make text from files and servers safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace every character that could move the cursor of a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
