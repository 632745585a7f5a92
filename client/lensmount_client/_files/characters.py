"""Which characters a text may have that one person writes and another reads, such as a label, a note or a name.

A copy of adapters/lensmount_adapters/characters.py that `make options` writes. Do not edit it here.
"""

from __future__ import annotations

import re
import unicodedata

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # C0, C1, and overrides of the direction

_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # letters and marks without a shape
_SEEN = frozenset(  # format characters that are drawn: signs before a number or a word
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
_JOINERS = frozenset("\u200c\u200d")


def refused_character(text: str, *, lines: bool = False) -> str | None:
    """What is wrong with the first character that a shown text may not have, in words; None if there is none.

    With `lines`, line feeds, carriage returns and tabs are accepted. The words name the character by its code point
    alone, so that they can be shown where the text cannot.
    """
    if text.isascii() and text.isprintable():
        return None
    for place, character in enumerate(text):
        if lines and character in "\n\r\t":
            continue
        if why := _why(text, place, character):
            return f"U+{ord(character):04X}, {why}"
    return None


def _why(text: str, place: int, character: str) -> str | None:
    category = unicodedata.category(character)
    if category == "Cc":
        return "a control character"
    if category in ("Zl", "Zp"):
        return "which ends a line"
    if category == "Cs":
        return "half of a character"
    if category == "Co" or ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF:
        return "which has no agreed meaning"
    if character in _JOINERS:
        return None if _joins(text, place) else "which is not seen"
    if category == "Cf" and character not in _SEEN:
        moves = unicodedata.bidirectional(character) not in ("BN", "AN")
        return "which changes the order of what is read" if moves else "which is not seen"
    return "which is not seen" if character in _FILLERS else None


def _joins(text: str, place: int) -> bool:
    """Whether a joiner follows a character that has no upper and lower case."""
    before = text[place - 1] if place else " "
    return not before.isascii() and before.upper() == before.lower() and not before.isspace() and before not in _JOINERS
