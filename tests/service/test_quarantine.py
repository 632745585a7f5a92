"""An adapter that fails several times in a row is held back until it is released."""

from __future__ import annotations

from lensmount_service.quarantine import MOST_COUNTED, Quarantine


def test_an_adapter_is_held_after_so_many_failures_in_a_row() -> None:
    quarantine = Quarantine(limit=3)

    assert [quarantine.failed("a", "NaN") for _ in range(4)] == [False, False, True, False]
    assert "a" in quarantine
    assert (quarantine.why("a"), len(quarantine)) == ("NaN", 1)


def test_one_answer_in_between_starts_the_count_again() -> None:
    quarantine = Quarantine(limit=2)
    for _ in range(10):
        assert not quarantine.failed("a", "NaN")
        quarantine.worked("a")

    assert "a" not in quarantine


def test_a_released_adapter_is_counted_from_zero() -> None:
    quarantine = Quarantine(limit=2)
    quarantine.failed("a", "NaN")
    quarantine.failed("a", "NaN")

    assert quarantine.release("a")
    assert not quarantine.release("a")
    assert "a" not in quarantine
    assert [quarantine.failed("a", "NaN") for _ in range(2)] == [False, True]


def test_the_counts_of_many_adapters_take_no_more_than_their_share_of_memory() -> None:
    quarantine = Quarantine(limit=2)
    quarantine.failed("first", "NaN")
    for number in range(MOST_COUNTED):
        quarantine.failed(str(number), "NaN")

    assert not quarantine.failed("first", "NaN")  # its first failure is forgotten
