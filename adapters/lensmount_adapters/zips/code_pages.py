"""Guess the code page of names in a zip file that are not UTF-8, by how much the decoded names look like words.

A zip file does not say which code page its names are in: the packing program used that of its system. All names of one
archive are in the same code page, so they are scored together. The guess is a rule and not a table of languages:

1. A code page in which a name cannot be decoded is out.
2. Every character outside ASCII is scored. An accented Latin letter is good in a word of Latin letters that is not
   mostly accents. A Cyrillic letter is good in a word of Cyrillic letters. In both, no capital may follow a small
   letter. A Chinese or Japanese character is good if it is one of the common ones, which their standards put first;
   kana are good in Shift-JIS, Korean syllables in code page 949. Everything else (lines of a box, symbols, rare
   characters, halfwidth kana) is bad.
3. The code page with the smallest share of bad characters is taken. Of equal ones, the first of CODE_PAGES is taken:
   code page 437 is what the format's specification states. One exception: any Korean syllable is also a common Chinese
   character of GBK, but not the other way round. So names of six or more different Korean syllables are Korean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

CODE_PAGES = ("cp437", "cp850", "cp1252", "gbk", "cp932", "big5", "cp949", "cp866", "cp1251")
NAMES = {
    "cp437": "code page 437",
    "cp850": "code page 850 (Western Europe)",
    "cp1252": "Windows-1252 (Western Europe)",
    "gbk": "GBK (simplified Chinese)",
    "cp932": "Shift-JIS (Japanese)",
    "big5": "Big5 (traditional Chinese)",
    "cp949": "code page 949 (Korean)",
    "cp866": "code page 866 (Cyrillic)",
    "cp1251": "Windows-1251 (Cyrillic)",
}
_COMMON = {"gbk": (0xB0, 0xD7), "cp932": (0x88, 0x97), "big5": (0xA4, 0xC6)}  # lead bytes of the first level
_MAX_NAMES = 2000  # that are scored; the others are only decoded
_MAX_ACCENTS = 0.7  # of the letters of a Latin word


@dataclass(frozen=True, slots=True)
class Guess:
    """A code page, the share of its characters outside ASCII that look wrong (0 to 1), and others that fit as well."""

    code_page: str
    wrong: float
    others: tuple[str, ...]


def guess_code_page(names: Sequence[bytes]) -> Guess:
    """Guess the code page of `names`, which are not UTF-8. Code page 437 decodes any bytes, so there is always one."""
    distinct = list(dict.fromkeys(part for name in names for part in re.split(rb"[/.]", name) if not part.isascii()))
    shares: dict[str, float] = {}
    for code_page in CODE_PAGES:
        try:
            decoded = [name.decode(code_page) for name in names]
        except UnicodeDecodeError:
            continue
        scored = [_scored(part, code_page) for part in distinct[:_MAX_NAMES]]
        shares[code_page] = sum(bad for bad, _ in scored) / max(1, sum(total for _, total in scored))
        if any("\\" in name and "/" in name for name in decoded):
            shares[code_page] = 1.0  # no program writes both separators, so one is half of a character
    best = min(shares, key=lambda code_page: shares[code_page])  # the first of equal ones
    if best in ("gbk", "big5") and shares.get("cp949") == shares[best] and _is_korean(distinct):
        best = "cp949"
    others = tuple(page for page in shares if page != best and shares[page] == shares[best])
    return Guess(best, shares[best], others)


def _is_korean(parts: Iterable[bytes]) -> bool:
    return len({character for part in parts for character in part.decode("cp949") if not character.isascii()}) >= 6


def _scored(part: bytes, code_page: str) -> tuple[int, int]:
    """The number of bad characters outside ASCII in one part of a name, and the number of all of them."""
    text = part.decode(code_page)
    bad = total = 0
    for word in re.findall(r"\w+|\W", text):
        foreign = [character for character in word if ord(character) > 127]
        scripts = {_script(character) for character in word if character.isalpha()}
        total += len(foreign)
        if len(scripts) > 1 or _is_odd_word(word, foreign, scripts):
            bad += len(foreign)
        else:
            bad += sum(not _is_good(character, code_page) for character in foreign)
    return bad, total


def _script(character: str) -> str:
    """LATIN, CYRILLIC, or EAST for all scripts of East Asia, which one word may mix."""
    first = unicodedata.name(character, "?").split()[0]
    return "EAST" if first.startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL")) else first


def _is_odd_word(word: str, foreign: list[str], scripts: set[str]) -> bool:
    """True for a Latin word of mostly accented letters, and for a word with a capital after a small letter."""
    if any(small.islower() and large.isupper() for small, large in pairwise(word) if not large.isascii()):
        return True
    letters = sum(character.isalpha() for character in word)
    accents = sum(character.isalpha() for character in foreign)
    return scripts == {"LATIN"} and letters > 1 and accents > _MAX_ACCENTS * letters


def _is_good(character: str, code_page: str) -> bool:
    script = _script(character)
    if script != "EAST":
        return unicodedata.category(character) in ("Lu", "Ll") and script in ("LATIN", "CYRILLIC")
    kind = unicodedata.name(character)
    if not kind.startswith("CJK"):
        return code_page == {"HIR": "cp932", "KAT": "cp932", "HAN": "cp949"}[kind[:3]]
    first, last = _COMMON.get(code_page, (0, -1))
    raw = character.encode(code_page)
    return first <= raw[0] <= last and (code_page != "gbk" or raw[1] >= 0xA1)
