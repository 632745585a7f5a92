"""A worker's settings come from flags and variables; wrong ones are refused before anything starts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from lensmount_service.worker.settings import WorkerSettings


@pytest.mark.parametrize("name", ["RETRY_FOR_S", "PATIENCE_S"])
def test_the_retry_time_can_be_set_by_its_variable_and_by_the_older_one(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert WorkerSettings().retry_for_s == 600
    monkeypatch.setenv(f"LENSMOUNT_{name}", "7.5")
    assert WorkerSettings().retry_for_s == 7.5


@pytest.mark.parametrize(("name", "value"), [("NICE", "20"), ("SERVER", "ftp://localhost:8000")])
def test_a_variable_out_of_its_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LENSMOUNT_{name}", value)
    with pytest.raises(ValidationError):
        WorkerSettings()
