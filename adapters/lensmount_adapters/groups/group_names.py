"""Find groups in file and folder names (patients, slides, source tiles), and propose a regular expression for them.

Images of one patient look alike. If some of them are trained on and others are tested on, the test figures are too
good. Four kinds of expressions are tried, the surest first: a word such as `patient` with a number or a letter; a
folder; the beginning of a file name, short ones before long ones (`C12P3` before `C12P3_cell`); and a name without the
mark of an augmentation or a side (`_rot90`, `_left`). A folder or a beginning must look like a group: it is a number or
a code (it has a digit, and is no date, coordinate or counter). Most images must share their group with others, and
every class must have several groups.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FEWEST_GROUPS = 3  # of each class
_IN_A_GROUP = 2.0  # images, on average
_LARGEST = 0.5  # of a class's images, in one group
_SHARED = 0.6  # of all images share their group with another image
_MAX_PARTS = 6  # of a file name, or folders
_SEPARATORS = "_ .-"
_WORDS = (  # the widest unit first: a patient has several slides, and a slide has several scans
    *("patient[a-z]*", "pat", "pt", "paziente", "paciente", "пациент", "患者", "病人", "환자"),
    *("subject", "subj", "sub", "participant", "person", "donor", "mouse", "animal", "case", "specimen", "slide"),
    *("study", "session", "visit", "video", "vid", "clip", "sequence", "seq", "site", "station", "camera", "cam"),
)
_BURST = r"(?i)(BURST\d{8,})"  # the time at which a phone's burst began
_WORD = re.compile(
    rf"(?:^|[^a-z])(?:patient|subject|sample|series|scan|source|tile|plate|id|p|s|g)[{_SEPARATORS}]?\d", re.IGNORECASE
)
_CODE = re.compile(r"(?=.*\d)(?:(?=.*[A-Za-z]).+|\d{3,})", re.DOTALL)  # letters and digits, or a number of 3 digits
_DATE = re.compile(r"(?:19|20)\d\d(?:\d{4}(?:\d{4,6})?)?|\d{1,2}|(?:.*\D)?(?:19|20)\d\d-\d\d-\d\d[T ].*")
_DAY = re.compile(r"(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d")
_COUNTER = re.compile(
    r"(?:.*[_ .-])?(?:x|y|z|r|row|col|column|level|zoom|v|ver|version|batch|part|fold|split|chunk|shard|page|images?"
    r"|img|dsc|dscn|dscf|pict?|photo|scan|frame|cell|crop|tile|patch)[_ .-]?\d+",
    re.IGNORECASE,
)
_EDITS = "aug[a-z]*|rot[a-z]*|[hv]?flip[a-z]*|mirror[a-z]*|noise|blur|bright[a-z]*|left|right|l|r|od|os"
_VERSIONS = (
    r"^(.+?)_(?:jpe?g|png|bmp|tiff?)\.rf\.",  # Roboflow's augmented copies
    rf"(?i)^(.+?)(?:[{_SEPARATORS}](?:{_EDITS})[{_SEPARATORS}]?\d*){{1,3}}\.[^.]+$",
)


@dataclass(frozen=True, slots=True)
class ProposedGroups:
    """A regular expression for `group_regex` and the group that it finds for each path, in the order of the paths.

    `few` are the classes that have fewer than FEWEST_GROUPS groups, while others have more.
    """

    regex: str
    groups: tuple[str, ...]
    few: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(set(self.groups))

    @property
    def examples(self) -> list[str]:
        return sorted(set(self.groups))[:2]


def propose_groups(paths: Sequence[str], labels: Sequence[str]) -> ProposedGroups | None:
    """Return the groups that the names of these images suggest, or None. The expression matches every path."""
    for expression, look in _expressions(min((path.count("/") for path in paths), default=0)):
        groups = _found(expression, paths)
        if groups is None or not (look is None or all(map(look, set(groups)))):
            continue
        by_class = _by_class(groups, labels)
        few = tuple(sorted(label for label, found in by_class.items() if len(found) < FEWEST_GROUPS))
        if _are_shared(by_class) and not (few and look):
            return ProposedGroups(expression, tuple(groups), few)
    return None


def _expressions(depth: int) -> Iterator[tuple[str, Callable[[str], bool] | None]]:
    """The expressions in their order, each with the look of its groups; None if they need no further look."""
    yield _BURST, None
    for word in _WORDS:
        yield rf"(?i)(?<![a-z])({word}[{_SEPARATORS}]?\d+)", None
        yield rf"(?i)(?<![a-z])({word.removesuffix('[a-z]*')}[{_SEPARATORS}]?[a-z])(?![a-z])", None
    for level in range(min(depth, _MAX_PARTS)):
        yield f"^{'[^/]+/' * level}([^/]+)/", _looks_like_a_folder_of_one
    part = f"[^{_SEPARATORS}]+"
    for before in range(_MAX_PARTS):
        yield f"^({f'{part}[{_SEPARATORS}]+' * before}{part})", _looks_like_one
    yield r"^([A-Za-z]+\d+)[A-Za-z]", _looks_like_one
    for expression in _VERSIONS:
        yield expression, None


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


def _are_shared(by_class: dict[str, Counter[str]]) -> bool:
    """Return True if the images share their groups, and if no class with several groups is mostly one of them."""
    sizes = [size for found in by_class.values() for size in found.values()]
    several = [found for found in by_class.values() if len(found) >= FEWEST_GROUPS]
    return (
        sum(sizes) >= _IN_A_GROUP * len(sizes)
        and sum(size for size in sizes if size > 1) >= _SHARED * sum(sizes)
        and len(several) > 0
        and all(max(found.values()) <= _LARGEST * found.total() for found in several)
    )


def _by_class(groups: Sequence[str], labels: Sequence[str]) -> dict[str, Counter[str]]:
    by_class: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        by_class[label][group] += 1
    return by_class


def _looks_like_a_folder_of_one(name: str) -> bool:
    """Return True if a folder has the name of a group, or is a day: images of one session look alike."""
    return _DAY.fullmatch(name) is not None or _looks_like_one(name)


def _looks_like_one(name: str) -> bool:
    """Return True if the last part of a name is a code or a number, and no date, year, coordinate or counter."""
    *_, last = re.split(rf"[{_SEPARATORS}]+", name)
    if _WORD.search(name):
        return True
    if _COUNTER.fullmatch(name) or _DATE.fullmatch(last) or _DATE.fullmatch(name):
        return False
    return _CODE.fullmatch(last) is not None
