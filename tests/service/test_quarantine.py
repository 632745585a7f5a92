"""An adapter that fails several times in a row is held back until it is released."""

from __future__ import annotations

from lensmount_service.quarantine import MOST_COUNTED, Quarantine


def test_an_adapter_is_held_after_so_many_failures_in_a_row() -> None:
    quarantine = Quarantine(limit=3)

    assert [quarantine.failed("a", "NaN") for _ in range(4)] == [False, False, True, False]
    assert quarantine.holds("a")
    assert (quarantine.why("a"), len(quarantine)) == ("NaN", 1)


def test_one_answer_in_between_starts_the_count_again() -> None:
    quarantine = Quarantine(limit=2)
    for _ in range(10):
        assert not quarantine.failed("a", "NaN")
        quarantine.worked("a")

    assert not quarantine.holds("a")


def test_a_released_adapter_is_counted_from_zero() -> None:
    quarantine = Quarantine(limit=2)
    quarantine.failed("a", "NaN")
    quarantine.failed("a", "NaN")

    assert quarantine.release("a")
    assert not quarantine.release("a")
    assert not quarantine.holds("a")
    assert [quarantine.failed("a", "NaN") for _ in range(2)] == [False, True]


def test_the_counts_of_many_adapters_take_no_more_than_their_share_of_memory() -> None:
    quarantine = Quarantine(limit=2)
    quarantine.failed("first", "NaN")
    for number in range(MOST_COUNTED):
        quarantine.failed(str(number), "NaN")

    assert not quarantine.failed("first", "NaN")  # its first failure is forgotten


def test_the_failures_of_one_tenant_hold_an_adapter_for_this_tenant_alone() -> None:
    quarantine = Quarantine(limit=2)
    for _ in range(3):
        quarantine.failed("a", "NaN", "lab1")
        quarantine.failed("a", "NaN", "lab2")
        quarantine.worked("a", "lab2")

    assert quarantine.holds("a", "lab1")
    assert not quarantine.holds("a", "lab2")
    assert [quarantine.why("a", tenant) for tenant in ("lab1", "lab2")] == ["NaN", ""]
    assert len(quarantine) == 1


def test_a_damaged_file_is_held_for_all_until_it_is_mended_whatever_is_released() -> None:
    quarantine = Quarantine(limit=1)
    quarantine.failed("a", "NaN", "lab1")
    assert quarantine.damaged("a", "its file is gone")
    assert not quarantine.damaged("a", "again")
    assert {quarantine.why("a", tenant) for tenant in ("lab1", "lab2")} == {"its file is gone"}
    assert quarantine.release("a")
    assert quarantine.holds("a", "lab1")
    assert quarantine.mended("a")
    assert not quarantine.holds("a", "lab1")
