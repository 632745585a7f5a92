from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from lensmount_service.access import audit
from lensmount_service.access.audit import MAX_WAITING, AuditLog, Record
from lensmount_service.errors import RequestInvalid, VersionDeleted


def record(time: float = 1.0, actor: str = "reader1", tenant: str = "lab", status: int = 201, **more: Any) -> Record:
    fields = {"action": "PUT /adapters/{name}", "target": "/adapters/a", "digest": None, "request_id": "r"}
    return Record(time, actor, tenant, **(fields | {"status": status} | more))


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit", 2**30)


def everything(log: AuditLog, limit: int = 1000, since: float = 0.0, **wanted: str) -> list[dict[str, Any]]:
    """All pages."""
    page = log.page(since, None, limit, wanted)
    records = list(page.records)
    while page.after is not None:
        page = log.page(since, page.after, limit, wanted)
        records += page.records
    return records


def test_records_are_lines_of_json_that_only_the_owner_reads(log: AuditLog, tmp_path: Path) -> None:
    log.add(record(digest="sha256:0"))
    log.flush()

    (path,) = (tmp_path / "audit").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {
        **{"time": 1.0, "actor": "reader1", "tenant": "lab", "action": "PUT /adapters/{name}", "target": "/adapters/a"},
        **{"digest": "sha256:0", "request_id": "r", "status": 201, "count": 1},
    }


def test_the_thread_writes_what_waits_when_it_ends(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", 2**30) as log:
        log.add(record())

    assert len(everything(log)) == 1


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_pages_have_every_record_once_over_several_files(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES", 2000)
    monkeypatch.setattr(audit, "MAX_SCAN_BYTES", 1500)  # a page may end because of what it read
    for number in range(60):
        log.add(record(float(number), actor=f"a{number % 3}"))
        if number % 5 == 4:
            log.flush()

    assert [found["time"] for found in everything(log, limit)] == list(range(60))
    assert [found["time"] for found in everything(log, limit, actor="a1")] == list(range(1, 60, 3))
    assert [found["time"] for found in everything(log, limit, since=57.0)] == [57, 58, 59]
    assert everything(log, limit, tenant="other") == []


def test_the_oldest_files_go_when_there_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES", 1000)
    log = AuditLog(tmp_path / "audit", 5000)
    for number in range(100):
        log.add(record(float(number)))
        log.flush()

    files = list((tmp_path / "audit").iterdir())
    assert sum(path.stat().st_size for path in files) <= 5000 + 300
    times = [found["time"] for found in everything(log)]
    assert times[-1] == 99
    assert times == list(range(int(times[0]), 100))


def test_equal_refusals_of_a_second_are_one_record_with_their_number(log: AuditLog) -> None:
    for number in range(1000):
        log.add(record(float(number), actor="-", status=401))
    log.add(record(5.0))
    log.add(record(6.0))
    log.flush()

    assert [(found["status"], found["count"]) for found in everything(log)] == [(201, 1), (201, 1), (401, 1000)]


def test_while_the_disk_takes_nothing_records_wait_and_trouble_says_so(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("in the way")
    log.add(record())
    log.flush()
    assert log.trouble is not None
    assert "1 audit records wait" in log.trouble

    (tmp_path / "audit").unlink()
    log.flush()
    assert log.trouble is None
    assert len(everything(log)) == 1


def test_what_waits_is_bounded_and_what_is_lost_is_counted(log: AuditLog) -> None:
    for _ in range(MAX_WAITING):
        log.add(record(status=403))
    for _ in range(MAX_WAITING):
        log.add(record())
    log.flush()

    found = everything(log)
    (lost,) = [each for each in found if each["action"] == "lost"]
    assert lost["count"] == MAX_WAITING
    assert sum(each["count"] for each in found if each["action"] != "lost") == MAX_WAITING


@pytest.mark.parametrize("line", [b"\0\0\0\n", b"{\n", b"[]\n", b'{"time": 1}\n', b"\xff\n", b"half"])
def test_lines_that_are_no_records_are_passed_over(log: AuditLog, tmp_path: Path, line: bytes) -> None:
    log.add(record())
    log.flush()
    (path,) = (tmp_path / "audit").iterdir()
    path.write_bytes(line + path.read_bytes() if line.endswith(b"\n") else path.read_bytes() + line)

    assert len(everything(log)) == 1


def test_a_page_s_end_stays_valid_while_the_log_grows_and_begins_new_files(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES", 1000)
    seen: list[float] = []
    end: str | None = None
    for number in range(40):
        log.add(record(float(number)))
        log.flush()
        if number % 3 == 0:
            page = log.page(0.0, end, 1000, {})
            assert not page.more
            seen += [found["time"] for found in page.records]
            end = page.end
    assert seen == list(range(40))
    assert log.page(0.0, end, 1000, {}).end == end


def test_an_end_whose_file_was_removed_is_refused_and_a_new_beginning_works(log: AuditLog, tmp_path: Path) -> None:
    log.add(record(1.0))
    log.flush()
    end = log.page(0.0, None, 1, {}).end
    assert end is not None
    (path,) = (tmp_path / "audit").iterdir()
    path.rename(path.with_name("audit-0000000000000001.jsonl"))  # as if it were another file

    with pytest.raises(VersionDeleted, match="Fix: leave after out") as gone:
        log.page(0.0, end, 1000, {})
    assert gone.value.code == "audit_gone"
    assert len(log.page(0.0, None, 1000, {}).records) == 1


@pytest.mark.parametrize("past", [-1, 1, 10**6])
def test_an_end_that_no_page_had_is_refused(log: AuditLog, past: int) -> None:
    log.add(record(1.0))
    log.flush()
    number, _, offset = str(log.page(0.0, None, 1, {}).end).partition(":")

    with pytest.raises(RequestInvalid, match="Fix: leave after out"):
        log.page(0.0, f"{number}:{int(offset) + past}", 1000, {})


def test_other_files_in_the_folder_are_left_alone(log: AuditLog, tmp_path: Path) -> None:
    log.add(record(1.0))
    log.flush()
    (tmp_path / "audit" / "audit-copy.jsonl").write_text("{}\n")

    assert len(everything(log)) == 1
