"""The table of options is consistent in itself. tests/test_one_source.py compares it with everything that reads it."""

from __future__ import annotations

from collections import Counter

import pytest

from lensmount_adapters.options.option import Option
from lensmount_adapters.options.table import JOB_OPTIONS, TRAINING_OPTIONS, options_of_jobs, options_of_train

ALL = (*TRAINING_OPTIONS, *JOB_OPTIONS)


def test_no_name_and_no_flag_is_used_twice() -> None:
    assert Counter(option.name for option in ALL).most_common(1)[0][1] == 1
    assert Counter(option.command_flag for option in ALL).most_common(1)[0][1] == 1


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_a_default_is_one_of_the_allowed_values_and_the_help_is_a_sentence(option: Option) -> None:
    assert option.expected_instead(option.default) is None
    assert option.help.endswith(".")
    assert not (option.required and option.default is not None)
    assert not option.unset.endswith(".")


def test_jobs_and_the_command_leave_out_what_has_a_reason_to_be_left_out() -> None:
    jobs, command = ({option.name for option in options} for options in (options_of_jobs(), options_of_train()))
    assert {"rank", "epochs", "priority", "alias"} <= jobs
    assert not {"data", "threads", "augmentation"} & jobs
    assert {"rank", "epochs", "data", "threads"} <= command
    assert not {"priority", "augmentation"} & command
