"""Which characters a text may have that one person writes and another reads, such as a label, a note or a name.

The client has a copy of this module (`make options` writes it), so that it and the server accept the same texts.

A text that is shown must be what it seems to be. So characters that are not seen, that move the text around them, or
that have no agreed meaning are refused, and everything that is written in any script is accepted.

| refused | because | such as |
|---|---|---|
| control characters, C0 and C1 | a terminal obeys them | U+001B (escape), U+009B (CSI) |
| line and paragraph separators | they end a line | U+2028; a line feed too, unless the text may have lines |
| bidirectional controls | the text is read in another order | U+202E, U+2066, U+200F |
| characters of no width, and fillers | two texts look alike | U+200B, U+00AD, U+FEFF, U+3164 |
| joiners after a space or a letter that has a case | they are not seen there | U+200C, U+200D |
| surrogates without a partner | UTF-8 cannot encode them | U+D800 |
| private use and noncharacters | each system shows something else | U+E000, U+FFFE |

Joiners are accepted within words of Persian, Hindi, Sinhala and the like, and within emoji: their letters have no case.
Names of files come from cameras and phones, which write marks that are not seen. Only `CONTROLS` are refused there.
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
