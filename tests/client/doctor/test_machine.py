"""Free memory is what the system has, and no more than a container's limit leaves."""

from __future__ import annotations

from pathlib import Path

from lensmount_client._doctor.machine import free_bytes, machine, memory


def test_free_memory_is_the_smaller_of_the_system_s_and_the_container_s(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    assert free_bytes(meminfo, tmp_path) == 4_096_000_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert free_bytes(meminfo, tmp_path) == 4_096_000_000
    (tmp_path / "memory.max").write_text("2500\n")
    assert free_bytes(meminfo, tmp_path) == 2000
    assert free_bytes(tmp_path / "none", tmp_path) is None


def test_too_little_memory_is_a_note_with_a_fix() -> None:
    assert memory(8 * 10**9).level == "ok"
    assert memory(None).level == "ok"
    little = memory(5 * 10**8)
    assert (little.level, little.found) == ("note", "0.5 GB free")
    assert little.fix


def test_a_machine_that_runs_the_tests_has_no_problem() -> None:
    assert [finding.part for finding in machine()] == ["version", "system", "processor", "memory"]
    assert "problem" not in {finding.level for finding in machine()}
