"""The tree of errors: one base, a stable code for every class, and finer codes that belong to one class alone."""

from __future__ import annotations

import inspect
import re
from itertools import chain

import pytest

from lensmount_adapters import errors
from lensmount_adapters.errors import AdapterInvalid, DatasetError, ImageTooLarge, LensmountError, VolumeTooLarge

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, LensmountError)]


def test_an_error_has_the_code_of_its_class_unless_it_is_raised_with_a_finer_one() -> None:
    assert AdapterInvalid("no").code == "adapter_invalid"
    assert AdapterInvalid("no", code="head_missing").code == "head_missing"
    assert VolumeTooLarge("no").code == "volume_too_large"
    assert isinstance(VolumeTooLarge("no"), ImageTooLarge)
    assert str(DatasetError("found nothing")) == "found nothing"


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_code_is_a_word_for_scripts(error: type[LensmountError]) -> None:
    for code in (error.default_code, *error.finer_codes):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", code)


def test_a_finer_code_belongs_to_one_class_and_is_no_default() -> None:
    finer = list(chain.from_iterable(vars(error).get("finer_codes", ()) for error in CLASSES))
    assert len(finer) == len(set(finer))
    assert not set(finer) & {error.default_code for error in CLASSES}


def test_the_tree_in_the_docstring_names_every_class_below_its_base() -> None:
    drawn = dict[str, str]()
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│ ├└─]*)(\w+)( {2,}|$)", line):
            depth, name = len(found[1]), found[2]
            above = [(at, base) for at, base in above if at < depth]
            if above:
                drawn[name] = above[-1][1]
            above.append((depth, name))
    assert drawn == {error.__name__: error.__bases__[0].__name__ for error in CLASSES if error is not LensmountError}
