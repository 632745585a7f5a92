"""What was taught, in one line."""

from __future__ import annotations

import math

from lensmount_client import AdapterId, DatasetId, Taught


def test_it_says_how_good_it_is_or_that_nothing_was_measured() -> None:
    adapter, dataset = AdapterId("leaves", 2, "sha256:0"), DatasetId("leaves", 1, "sha256:1")
    found = Taught(adapter, dataset, "ab", ("birch", "oak"), 40, 6, 0.75, 9.5, ())
    assert str(found) == "leaves@2: 2 classes, balanced accuracy 75.0% on 6 test images"
    assert found.name == "leaves"
    unmeasured = Taught(adapter, dataset, "ab", ("birch", "oak"), 40, 0, math.nan, 9.5, ())
    assert str(unmeasured) == "leaves@2: 2 classes, not measured, because there was no test part"
