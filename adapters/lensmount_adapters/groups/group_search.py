"""Search names with an expression of a stranger, for a bounded time: in a process of its own, which is ended.

Python's `re` can take exponential time, and nothing can interrupt it within its process: it holds the interpreter's
lock. So the search runs in a child that has only the standard library, with a limit on its processor time.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from lensmount_adapters.errors import DatasetError

CPU_S = 2  # of the child; an ordinary expression finds the groups of 100,000 paths in a tenth of it
_WALL_S = 20.0  # in case the machine is busy
_CHILD = """
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1]) + 1))
except ImportError:
    pass  # Windows has only the limit on the time that passes
expression, paths = json.load(sys.stdin)
pattern = re.compile(expression)
def group(path):
    match = pattern.search(path.rpartition("/")[2]) or pattern.search(path)
    return match and next((found for found in match.groups() if found is not None), match.group())
json.dump([group(path) for path in paths], sys.stdout)
"""


def group_of(pattern: re.Pattern[str], path: str) -> str:
    """Return the group of an image: the first group of `pattern` that matches in its file name, or else in its path.

    Without such a group, the whole match counts. Raises DatasetError if nothing matches.
    """
    match = pattern.search(path.rpartition("/")[2]) or pattern.search(path)
    if match is None:
        raise no_match(pattern.pattern, path)
    return str(next((found for found in match.groups() if found is not None), match.group()))


def no_match(expression: str, path: str) -> DatasetError:
    return DatasetError(
        f"--group-regex {expression!r} does not match {path!r}, expected it to find the group in every "
        "file name or in every path below the dataset. Fix: write one that fits this name too, or state the groups in "
        "the column 'group' of a labels.csv and leave --group-regex out"
    )


def search_groups(expression: str, paths: Sequence[str], cpu_s: int = CPU_S) -> list[str]:
    """Return what `group_of` finds for each path, within `cpu_s` seconds of processor time.

    Raises DatasetError if a path does not match or if the search takes longer. `expression` is a valid one.
    """
    try:
        groups = search_names(expression, paths, cpu_s)
    except TimeoutError:
        raise DatasetError(
            f"--group-regex {expression[:80]!r}: found a search of {len(paths)} paths that takes more than {cpu_s} s, "
            "expected less. Fix: write it without a repetition in a repetition, such as (a+)+, or state the groups in "
            "the file of labels"
        ) from None
    for path, group in zip(paths, groups, strict=True):
        if group is None:
            raise no_match(expression, path)
    return [group for group in groups if group is not None]


def search_names(expression: str, names: Sequence[str], cpu_s: int = CPU_S) -> list[str | None]:
    """Return what `expression` finds in each name, or None. `expression` is a valid one.

    Raises TimeoutError if that takes more than `cpu_s` seconds of processor time.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CHILD, str(cpu_s)],
            input=json.dumps([expression, list(names)]),
            capture_output=True,
            text=True,
            timeout=_WALL_S,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise TimeoutError(f"more than {cpu_s} s") from None
    found: list[str | None] = json.loads(done.stdout)
    return found
