"""Points do nothing until a test installs a plan, and every point has a name of its own room."""

from __future__ import annotations

import pytest

from lensmount_adapters.faults import fault, installed


def test_a_point_does_nothing_until_a_plan_is_installed() -> None:
    passed: list[str] = []
    fault("atomic.write")

    with installed(passed.append):
        fault("atomic.write")
    fault("atomic.write")

    assert passed == ["atomic.write"]


def test_a_plan_ends_with_its_block_even_if_it_raises() -> None:
    def fail(point: str) -> None:
        raise OSError(point)

    with installed(fail), pytest.raises(OSError, match=r"atomic\.write"):
        fault("atomic.write")

    fault("atomic.write")
