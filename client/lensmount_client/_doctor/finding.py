"""One line of the doctor's report."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What was found about one part. `level` is "ok", "note" (it works, but something is missing) or "problem".

    A problem keeps a command from working. A note and a problem have a `fix`.
    """

    part: str
    level: str
    found: str
    fix: str = ""


def of_all(findings: list[Finding]) -> str:
    """ "Nothing is wrong.", or how many problems and notes there are."""
    counts = [(sum(finding.level == level for finding in findings), level) for level in ("problem", "note")]
    words = [f"{count} {level}{'s' if count > 1 else ''}" for count, level in counts if count]
    return f"Found {' and '.join(words)}." if words else "Nothing is wrong."
