"""Groups are searched in names as training does, and a slow expression is stopped."""

from __future__ import annotations

import re
import time

import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.groups.group_search import group_of, search_groups, search_names

PATHS = ["a/patient_1/x_7.png", "b/patient_2/ü 8.png"]


@pytest.mark.parametrize("expression", [r"patient_(\d+)", r"_(\d)", r"[^/]+$", r"^(.)", r"(?i)PATIENT.\d", r"(z)?\d"])
def test_the_child_finds_what_training_finds(expression: str) -> None:
    assert search_groups(expression, PATHS) == [group_of(re.compile(expression), path) for path in PATHS]


def test_of_several_alternatives_the_group_of_the_one_that_matches_counts() -> None:
    paths = ["a/patient_1.png", "a/slide_7.png", "b/slide_8.png", "b/x.png"]

    assert search_groups(r"patient_(\d+)|slide_(\d+)|[^/]+$", paths) == ["1", "7", "8", "x.png"]


def test_a_path_without_a_match_is_refused_with_the_words_of_training_and_the_advice_works() -> None:
    with pytest.raises(DatasetError) as caught:
        group_of(re.compile("patient_1"), PATHS[1])

    with pytest.raises(DatasetError, match=re.escape(str(caught.value))):
        search_groups("patient_1", PATHS)
    assert "Fix: write one that fits this name too, or state the groups" in str(caught.value)
    assert search_groups(r"patient_1|patient_2", PATHS) == ["patient_1", "patient_2"]


def test_an_exponential_expression_is_stopped_and_one_without_the_repetition_works() -> None:
    paths = [f"a/{'a' * 200}_{number}.png" for number in range(3)]
    begin = time.monotonic()

    with pytest.raises(DatasetError, match=r"takes more than 1 s, expected less\. Fix: write it without a repetition"):
        search_groups(r"(a+)+$", paths, cpu_s=1)

    assert time.monotonic() - begin < 20
    assert search_groups(r"(a+)_", paths) == ["a" * 200] * 3


def test_names_are_searched_one_by_one_and_those_without_a_match_are_none() -> None:
    assert search_names(r"conv(\d)|bn", ["layer1.conv2", "fc", "layer1.bn"]) == ["2", None, "bn"]
    with pytest.raises(TimeoutError):
        search_names(r"(.+)+(.+)+!", ["layer4.0.conv1.layer4.0.conv1"], cpu_s=1)
