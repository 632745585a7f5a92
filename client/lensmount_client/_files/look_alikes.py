"""Say which class names look alike and are different texts, such as `cats` with a Cyrillic а, with both code points.

A copy of adapters/lensmount_adapters/data/look_alikes.py that `make options` writes. Do not edit it here.
"""

# ruff: noqa: RUF001 - letters of other scripts look like those of ASCII

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import zip_longest

_SHOWN = 3  # pairs
_ALIKE = str.maketrans(
    # Cyrillic, Greek, Armenian, other Latin, signs: a part of Unicode's confusables.txt (UTS 39)
    "аԁеһіјӏоԛрѕсԝхуүѵАВСЕНІЈКМОРЅТХУҮԌԜαινορυγΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսոհցıɑɡɩ×‐‑‒–—−’ʼ′",
    "adehijloqpscwxyyvABCEHIJKMOPSTXYYGWaivopuyABEZHIKMNOPTYXounhgiagix------'''",
)


def look_alikes(labels: Iterable[str]) -> list[str]:
    """A sentence for the first pairs of labels that look alike: in letters of two scripts, or in their width.

    Two labels that differ in ASCII alone, such as `0` and `O`, are not named: they are on every keyboard.
    """
    spelled: dict[str, str] = {}
    pairs = [(first, label) for label in labels if (first := spelled.setdefault(_seen(label), label)) != label]
    return [_sentence(*sorted(pair)) for pair in pairs[:_SHOWN]]


def _seen(label: str) -> str:
    """The label as it is seen: in compatibility form (NFKD), without case, with Latin letters for those like them."""
    return unicodedata.normalize("NFKD", label).translate(_ALIKE).casefold()


def _sentence(first: str, second: str) -> str:
    one, other = next(pair for pair in zip_longest(first, second, fillvalue="") if pair[0] != pair[1])
    return (
        f"The class names {first[:80]!r} and {second[:80]!r} look alike: one has {_named(one)} where the other has "
        f"{_named(other)}. Fix: if they are one class, spell them alike"
    )


def _named(character: str) -> str:
    if not character:
        return "nothing"
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'without a name')})"
