"""Images of a batch are grouped by adapter, in the order in which the adapters first appear."""

from __future__ import annotations

from typing import Any

import torch

from lensmount_adapters import Adapter
from lensmount_adapters.runners.runner import BatchScores, by_adapter


def test_rows_are_grouped_by_adapter_in_order_of_appearance(adapters: list[Adapter], question: type[Any]) -> None:
    one, two, three = adapters[:3]
    image = torch.zeros(3, 8, 8)

    groups = by_adapter([question(adapter, image) for adapter in (two, one, two, three, one, two)])

    assert [(adapter.digest, rows) for adapter, rows in groups] == [
        (two.digest, [0, 2, 5]),
        (one.digest, [1, 4]),
        (three.digest, [3]),
    ]


def test_two_copies_of_one_adapter_are_one_group(adapters: list[Adapter], question: type[Any]) -> None:
    one = adapters[0]
    copied = Adapter(one.digest, one.size_bytes, one.manifest, one.deltas, one.head)

    ((_, rows),) = by_adapter([question(adapter, torch.zeros(3, 8, 8)) for adapter in (one, copied)])

    assert rows == [0, 1]


def test_an_empty_batch_has_no_groups_and_scores_start_at_zero() -> None:
    assert by_adapter([]) == []
    empty = BatchScores([])
    assert (empty.swap_s, empty.forward_s, empty.switches, empty.modes) == (0.0, 0.0, 0, {})
