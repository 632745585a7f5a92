"""The audit log by both clients, and from the command line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lensmount_client import AsyncClient, AuditRecord, Client, InvalidInput
from lensmount_client._cli.audit import moment_of


def test_all_pages_are_read(server: Any) -> None:
    began = datetime(2026, 1, 2, tzinfo=UTC)
    with Client(server.url) as client:
        records = client.audit(began, actor="reader1", action="PUT /adapters/{name}")
        assert client.audit(limit=1) == records[:1]

    assert len(records) == 3
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert records[0] == AuditRecord(moment, "reader1", "lab", "PUT /adapters/{name}", "=1", None, "r", 201, 1)
    asked = {"since": f"{began.timestamp():.3f}", "actor": "reader1", "action": "PUT /adapters/{name}"}
    assert server.tokens.audited[:3] == [asked, asked | {"after": "1:1"}, asked | {"after": "1:2"}]


def test_the_async_client_does_the_same(server: Any) -> None:
    async def story() -> int:
        async with AsyncClient(server.url) as client:
            return len(await client.audit())

    assert asyncio.run(story()) == 3


@pytest.fixture(autouse=True)
def _url(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)


def test_the_export_is_lines_of_json_or_csv(lensmount: Any) -> None:
    code, out, _ = lensmount("audit", "export", "--since", "7d")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, [line["status"] for line in lines]) == (0, [201] * 3)

    _, out, _ = lensmount("audit", "export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["target"] for row in rows] == ["'=1"] * 3  # no formula in a spreadsheet
    code, _, err = lensmount("audit", "export", "--format", "xml")
    assert (code, "Fix: --format csv" in err) == (2, True)


def test_an_export_resumes_where_it_ended_or_was_interrupted(server: Any, lensmount: Any) -> None:
    _, out, err = lensmount("audit", "export", "--format", "csv")
    assert (len(out.splitlines()), "lensmount audit export --after 1:2 --format csv" in err) == (4, True)

    code, out, _ = lensmount("audit", "export", "--after", "1:1", "--format", "csv")
    assert (code, len(out.splitlines())) == (0, 2)  # no second header
    assert server.tokens.audited[-2:] == [{"after": "1:1"}, {"after": "1:2"}]

    server.tokens.broken_after = "1:1"
    code, out, err = lensmount("audit", "export")
    assert (code, len(out.splitlines())) == (1, 1)
    assert "To resume from here: lensmount audit export --after 1:1 --format jsonl" in err


def test_the_list_is_a_table(lensmount: Any) -> None:
    code, out, _ = lensmount("audit", "list")
    assert code == 0
    for word in ("2026-01-02 03:04:05", "lab", "reader1", "PUT /adapters/{name}", "201"):
        assert word in out
    assert len(json.loads(lensmount("audit", "list", "--json")[1])["records"]) == 3


def test_a_time_is_a_date_or_how_far_back() -> None:
    assert moment_of("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert abs(datetime.now(UTC) - timedelta(days=7) - moment_of("7d")) < timedelta(minutes=1)
    with pytest.raises(InvalidInput, match=r"--since: .*Fix: --since 90d"):
        moment_of("last week")
