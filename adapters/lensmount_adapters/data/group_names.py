"""Find groups in file and folder names (patients, slides, source tiles), and propose a regular expression for them.

Images of one patient look alike. If some of them are trained on and others are tested on, the test figures are too
good. A name looks like that of a group if it is a number or a code (it has a digit, and is no date), if most images
share theirs with others, and if every class has several groups. Folders are tried before the beginnings of file names,
and short beginnings before long ones: `C12P3` before `C12P3_cell`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_GROUPS = 3  # of each class
_IN_A_GROUP = 2.0  # images, on average
_LARGEST = 0.5  # of a class's images, in one group
_SHARED = 0.6  # of all images share their group with another image
_MAX_PARTS = 4  # of a file name, or folders
_SEPARATORS = "_ .-"
_WORDS = (
    "patient|pat|subject|subj|sub|case|slide|donor|mouse|animal|specimen|sample|series|study|scan|source|tile|plate"
)
_WORD = re.compile(rf"(?:^|[^a-z])(?:{_WORDS}|id|p|s|g)[{_SEPARATORS}]?\d", re.IGNORECASE)
_CODE = re.compile(r"(?=.*\d)(?:(?=.*[A-Za-z]).+|\d{3,})", re.DOTALL)  # letters and digits, or a number of 3 digits
_DATE = re.compile(r"(?:19|20)\d\d(?:\d{4}(?:\d{4,6})?)?|\d{1,2}")
_COUNTER = re.compile(
    r"(?:img|image|dsc|dscn|dscf|pict?|photo|scan|frame|cell|crop|tile|patch)[_ .-]?\d+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ProposedGroups:
    """A regular expression for `group_regex` and the group that it finds for each path, in the order of the paths."""

    regex: str
    groups: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(set(self.groups))

    @property
    def examples(self) -> list[str]:
        return sorted(set(self.groups))[:2]


def propose_groups(paths: Sequence[str], labels: Sequence[str]) -> ProposedGroups | None:
    """Return the groups that the names of these images suggest, or None. The expression matches every path."""
    depth = min((path.count("/") for path in paths), default=0)
    expressions = [f"^{'[^/]+/' * level}([^/]+)/" for level in range(min(depth, _MAX_PARTS))]
    part = f"[^{_SEPARATORS}]+"
    expressions += [f"^({f'{part}[{_SEPARATORS}]+' * before}{part})" for before in range(_MAX_PARTS)]
    for expression in expressions:
        groups = _found(expression, paths)
        if groups is not None and _look_like_groups(groups, labels):
            return ProposedGroups(expression, tuple(groups))
    return None


def leak_between(groups: Sequence[str], parts: Sequence[str | None]) -> tuple[int, int]:
    """Return how many groups of the test part also have training images, and how many groups the test part has.

    Without a test part, the validation part counts. `parts` are "train", "validation", "test" or None for each image.
    """
    held_out = "test" if "test" in parts else "validation"
    tested = {group for group, part in zip(groups, parts, strict=True) if part == held_out}
    trained = {group for group, part in zip(groups, parts, strict=True) if part == "train"}
    return len(tested & trained), len(tested)


def _found(expression: str, paths: Sequence[str]) -> list[str] | None:
    pattern = re.compile(expression)
    groups = []
    for path in paths:
        match = pattern.search(path.rpartition("/")[2]) or pattern.search(path)
        if match is None:
            return None
        groups.append(match[1])
    return groups


def _look_like_groups(groups: Sequence[str], labels: Sequence[str]) -> bool:
    if not all(map(_looks_like_one, set(groups))):
        return False
    by_class: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        by_class[label][group] += 1
    sizes = [size for found in by_class.values() for size in found.values()]
    return (
        len(groups) >= _IN_A_GROUP * len(sizes)
        and sum(size for size in sizes if size > 1) >= _SHARED * len(groups)
        and all(len(found) >= FEWEST_GROUPS for found in by_class.values())
        and all(max(found.values()) <= _LARGEST * found.total() for found in by_class.values())
    )


def _looks_like_one(name: str) -> bool:
    """Return True if the last part of a name is a code or a number, and no date, year or counter of a camera."""
    *_, last = re.split(rf"[{_SEPARATORS}]+", name)
    if _WORD.search(name):
        return True
    if _COUNTER.fullmatch(name) or _DATE.fullmatch(last):
        return False
    return _CODE.fullmatch(last) is not None
