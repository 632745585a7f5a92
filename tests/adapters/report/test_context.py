"""What a report is given besides the adapter and its scores."""

from __future__ import annotations

from datetime import UTC, datetime

from lensmount_adapters.report import card, write
from lensmount_adapters.report.context import ReportContext


def test_a_report_has_today_s_date_and_nobody_s_name() -> None:
    before = datetime.now(UTC).date()
    context = ReportContext()

    assert before <= context.written <= datetime.now(UTC).date()
    assert context.author == ""


def test_the_old_places_still_have_the_names() -> None:
    assert "ReportContext" in vars(write)
    assert "CardTexts" in vars(card)
