"""Records as a table."""

from __future__ import annotations

from lensmount_client._types.records import data_frame


def test_rows_and_columns_are_those_of_the_records_and_an_empty_table_has_the_columns() -> None:
    table = data_frame([{"a": 1, "b": "x"}, {"a": 2, "b": None}], ("b", "a"))
    assert list(table.columns) == ["b", "a"]
    assert list(table["a"]) == [1, 2]
    assert list(data_frame([], ("a", "b")).columns) == ["a", "b"]
