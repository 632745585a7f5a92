from __future__ import annotations

import itertools

import pytest

from lensmount_service.errors import PreconditionFailed
from lensmount_service.store.precondition import ANY, Precondition

A, B = "sha256:a", "sha256:b"


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "met_by"),
    [
        (None, None, {A, B, None}),
        ({A}, None, {A}),
        ({A, B}, None, {A, B}),
        ({"*"}, None, {A, B}),
        (None, {"*"}, {None}),
        (None, {A}, {B, None}),
        ({A}, {A}, set()),
        ({"v1"}, None, set()),
    ],
)
def test_it_is_met_by_these_states_and_no_others(
    if_match: set[str] | None, if_none_match: set[str] | None, met_by: set[str | None]
) -> None:
    expected = Precondition(
        None if if_match is None else frozenset(if_match), None if if_none_match is None else frozenset(if_none_match)
    )
    for state in (A, B, None):
        if state in met_by:
            expected.require(state)
        else:
            with pytest.raises(PreconditionFailed, match="Fix: "):
                expected.require(state)
    for new, met in ((A, True), (B, False), (None, False)):
        if met:
            Precondition(if_match=frozenset({B})).require(A, new)
        else:
            with pytest.raises(PreconditionFailed):
                Precondition(if_match=frozenset({"v1"})).require(A, new)
    with pytest.raises(PreconditionFailed):
        Precondition(if_match=frozenset({A})).require(None, None)
    for state, _ in itertools.product((A, None), range(2)):
        ANY.require(state)
