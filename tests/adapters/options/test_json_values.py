"""Values as JSON gives them back compare equal to a record that was read from a file."""

from __future__ import annotations

from lensmount_adapters.options.json_values import as_json


def test_tuples_become_lists_and_keys_become_texts() -> None:
    assert as_json({"window": (-160, 240), 3: [(1.5,), None, True]}) == {
        "window": [-160, 240],
        "3": [[1.5], None, True],
    }


def test_the_copy_shares_nothing_with_the_values() -> None:
    values = {"a": [1]}
    copied = as_json(values)
    copied["a"].append(2)
    assert values == {"a": [1]}
