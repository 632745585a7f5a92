"""What a check and a recovery tell a person."""

from __future__ import annotations

from collections.abc import Sequence

from lensmount_service.repair.check import Checked
from lensmount_service.repair.recover import Recovered

MOST_SHOWN = 50


def described_check(checked: Checked) -> str:
    """A table of the findings, with the fix below each, or one line that all is well."""
    read = f"{checked.files} files, {checked.bytes_read / 2**20:.1f} MiB read"
    if not checked.findings:
        return f"All is well: {read}."
    lines = []
    for finding in checked.findings[:MOST_SHOWN]:
        lines += [f"{finding.kind:<9} {finding.what}: {finding.found}", f"{'':<9} Fix: {finding.fix}"]
    more = len(checked.findings) - MOST_SHOWN
    if more > 0:
        lines.append(f"... and {more} more; --json lists all")
    return "\n".join([*lines, f"{len(checked.findings)} findings, {read}."])


def described_recovery(recovered: Recovered) -> str:
    """What was done, what is lost, and what a person can do next."""
    lines = []
    if recovered.rebuilt:
        lines.append("The database was rebuilt.")
    if recovered.kept:
        lines.append(f"The damaged one is kept: {recovered.kept}")
    if recovered.rows:
        copied = ", ".join(f"{count} of {table}" for table, count in recovered.rows.copied.items() if count)
        lines.append(f"Rows that could be read: {copied or 'none'}.")
        if recovered.rows.lost:
            lost = ", ".join(f"{count} of {table}" for table, count in recovered.rows.lost.items())
            lines.append(f"Numbers of rows that could not be read: at most {lost}.")
    lines += _some("Rows mended from their files", recovered.mended_rows)
    lines += _some("Rows removed, because neither they nor their files can be read", recovered.removed_rows)
    lines += _some("Set apart in the folder `damaged`", recovered.set_apart)
    lines += _some("Missing files, whose adapters are quarantined until they are sent again", recovered.missing)
    lines += _some("Published again", recovered.adopted)
    lines += _some("Files that no row needs; `lensmount gc` removes them, --adopt publishes them", recovered.orphans)
    return "\n".join(lines) or "Nothing needed mending."


def _some(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = len(items) - MOST_SHOWN
    return [
        f"{title}: {len(items)}",
        *(f"  {item}" for item in items[:MOST_SHOWN]),
        *([f"  ... {more} more"] * (more > 0)),
    ]
