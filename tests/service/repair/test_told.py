from __future__ import annotations

from lensmount_service.repair.check import Checked, Finding
from lensmount_service.repair.recover import Recovered
from lensmount_service.repair.salvage import Salvaged
from lensmount_service.repair.told import MOST_SHOWN, described_check, described_recovery


def test_a_check_is_a_table_with_a_fix_for_each_finding() -> None:
    finding = Finding("missing", "adapter cells@1", "found no file", "send it again")
    assert described_check(Checked((), 3, 2**20)) == "All is well: 3 files, 1.0 MiB read."
    assert described_check(Checked((finding,), 3, 2**20)).splitlines() == [
        "missing   adapter cells@1: found no file",
        "          Fix: send it again",
        "1 findings, 3 files, 1.0 MiB read.",
    ]
    many = described_check(Checked((finding,) * (MOST_SHOWN + 7), 3, 0)).splitlines()
    assert len(many) == 2 * MOST_SHOWN + 2
    assert many[-2] == "... and 7 more; --json lists all"


def test_a_recovery_says_what_was_done_and_what_is_lost() -> None:
    assert described_recovery(Recovered()) == "Nothing needed mending."
    rows = Salvaged({"versions": 3, "jobs": 0}, {"versions": 2})
    told = described_recovery(Recovered(True, rows, "damaged/x.sqlite3", missing=["adapter a@1"])).splitlines()
    assert told == [
        "The database was rebuilt.",
        "The damaged one is kept: damaged/x.sqlite3",
        "Rows that could be read: 3 of versions.",
        "Numbers of rows that could not be read: at most 2 of versions.",
        "Missing files, whose adapters are quarantined until they are sent again: 1",
        "  adapter a@1",
    ]
