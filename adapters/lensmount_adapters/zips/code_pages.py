"""Guess the code page of names in a zip file that are not UTF-8: the one in which they are the most likely words.

A zip file does not say which code page its names are in: the packing program used that of its system. All names of one
archive are in the same code page, so they are scored together. A code page in which a name cannot be decoded is out.
The others are compared by the probability of the decoded names in the code page's language (`languages`), times the
probability that a zip has this code page at all. Code pages that come close and read other words are stated as well,
and so are words that are far more likely in another code page: an archive that was packed on two systems may mix them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log

from lensmount_adapters.zips.languages import log_likelihood


@dataclass(frozen=True, slots=True)
class CodePage:
    """What people call it, the language of its names, and how common it is compared with code page 437 (1)."""

    title: str
    language: str
    share: float


CODE_PAGES: Mapping[str, CodePage] = {
    "cp437": CodePage("code page 437", "western", 1),  # what the format's specification states
    "cp850": CodePage("code page 850 (Western Europe)", "western", 0.5),
    "cp1252": CodePage("Windows-1252 (Western Europe)", "western", 0.3),
    "gbk": CodePage("GBK (simplified Chinese)", "simplified Chinese", 0.5),
    "cp932": CodePage("Shift-JIS (Japanese)", "Japanese", 0.5),
    "big5": CodePage("Big5 (traditional Chinese)", "traditional Chinese", 0.2),
    "cp949": CodePage("code page 949 (Korean)", "Korean", 0.3),
    "cp866": CodePage("code page 866 (Cyrillic)", "cyrillic", 0.5),
    "cp1251": CodePage("Windows-1251 (Cyrillic)", "cyrillic", 0.3),
    "cp852": CodePage("code page 852 (Central Europe)", "central", 0.2),
    "cp1250": CodePage("Windows-1250 (Central Europe)", "central", 0.1),
    "cp857": CodePage("code page 857 (Turkish)", "turkish", 0.1),
    "cp1254": CodePage("Windows-1254 (Turkish)", "turkish", 0.05),
    "cp737": CodePage("code page 737 (Greek)", "greek", 0.1),
    "cp1253": CodePage("Windows-1253 (Greek)", "greek", 0.05),
    "cp862": CodePage("code page 862 (Hebrew)", "hebrew", 0.1),
    "cp1255": CodePage("Windows-1255 (Hebrew)", "hebrew", 0.05),
    "cp720": CodePage("code page 720 (Arabic)", "arabic", 0.1),
    "cp1256": CodePage("Windows-1256 (Arabic)", "arabic", 0.05),
    "cp874": CodePage("code page 874 (Thai)", "thai", 0.1),
    "cp775": CodePage("code page 775 (Baltic)", "baltic", 0.05),
    "cp1257": CodePage("Windows-1257 (Baltic)", "baltic", 0.03),
    "gb18030": CodePage("GB 18030 (Chinese)", "simplified Chinese", 0.02),
    "koi8-r": CodePage("KOI8-R (Cyrillic)", "cyrillic", 0.02),
    "euc_jp": CodePage("EUC-JP (Japanese)", "Japanese", 0.01),
    "iso8859-2": CodePage("ISO 8859-2 (Central Europe)", "central", 0.01),
    "mac-roman": CodePage("Mac OS Roman", "western", 0.01),
}
_MAX_NAMES = 500  # that are scored; the others are only decoded
_CLOSE = log(100)  # a reading is also stated if it is at most this many times less probable
_ODD = log(400)  # a word that is this many times more probable in another code page may be of that one
_BACKSLASH = -50.0  # no program writes both separators, so one of them is half of a character
_SHOWN = 3  # other readings


@dataclass(frozen=True, slots=True)
class Guess:
    """A code page, the share of its characters outside ASCII that are rare (0 to 1), and others that come close.

    The `others` read at least one name differently. `odd` are words that are far more probable in another code page.
    """

    code_page: str
    wrong: float
    others: tuple[str, ...]
    odd: tuple[tuple[bytes, str], ...] = ()


def guess_code_page(names: Sequence[bytes]) -> Guess:
    """Guess the code page of `names`, which are not UTF-8. Code page 437 decodes any bytes, so there is always one."""
    joined = b"\n".join(names)
    distinct = dict.fromkeys(part for part in re.split(rb"[/.\n]", joined) if not part.isascii())
    parts = list(distinct)[:_MAX_NAMES]
    scores: dict[str, float] = {}
    rare: dict[str, int] = {}
    for name, page in CODE_PAGES.items():
        try:
            decoded = joined.decode(name)
        except UnicodeDecodeError:
            continue
        found = [log_likelihood(part.decode(name), page.language) for part in parts]
        scores[name] = log(page.share) + sum(value for value, _ in found)
        scores[name] += _BACKSLASH if _has_both_separators(decoded) else 0
        rare[name] = sum(count for _, count in found)
    best, *rest = sorted(scores, key=lambda name: -scores[name])  # the first of equal ones
    readings = {b"/".join(parts).decode(best)}
    others: list[str] = []
    for name in rest:
        reading = b"/".join(parts).decode(name)
        if scores[best] - scores[name] <= _CLOSE and reading not in readings and len(others) < _SHOWN:
            readings.add(reading)
            others.append(name)
    foreign = sum(not character.isascii() for part in parts for character in part.decode(best))
    return Guess(best, rare[best] / max(1, foreign), tuple(others), tuple(_odd(parts, best)))


def _odd(parts: Sequence[bytes], best: str) -> Iterator[tuple[bytes, str]]:
    """Yield the words that another code page makes far more probable, also one that cannot decode all the names."""
    for part in parts:
        rivals = {name: value for name, page in CODE_PAGES.items() if (value := _score(part, name, page)) is not None}
        rival = max(rivals, key=lambda name: rivals[name])
        if rivals[rival] - rivals[best] > _ODD and part.decode(rival) != part.decode(best):
            yield part, rival


def _score(part: bytes, name: str, page: CodePage) -> float | None:
    try:
        return log(page.share) + log_likelihood(part.decode(name), page.language)[0]
    except UnicodeDecodeError:
        return None


def _has_both_separators(names: str) -> bool:
    return "\\" in names and any("\\" in name and "/" in name for name in names.split("\n"))
