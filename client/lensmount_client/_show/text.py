"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without anything that could move the cursor of a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
