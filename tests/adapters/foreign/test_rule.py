"""The preprocessing of an import: the backbone's own, with the fields that the user gives."""

from __future__ import annotations

import pytest
from tests.adapters.foreign.peft_networks import backbone_of, network

from lensmount_adapters import Preprocessing
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.foreign.rule import rule_of

BACKBONE = backbone_of(network())


def test_fields_that_are_not_given_are_the_backbone_s() -> None:
    rule = rule_of('{"resize": "pad", "size": [32, 48]}', BACKBONE)

    assert isinstance(rule, Preprocessing)
    assert (rule.resize, rule.size, rule.mean) == ("pad", (32, 48), (0.5, 0.5, 0.5))
    assert rule_of("{}", BACKBONE) == BACKBONE.preprocessing


FIELDS = ['{"crop": 1}', '{"resize": "stretch"}', '{"size": [8, 8]}', '{"mean": [NaN, 1, 1]}']
WRONG = ["", "pad", "[]", "3", *FIELDS, "{" * 9000]


@pytest.mark.parametrize("text", WRONG)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(AdapterInvalid, match=r"preprocessing: .*Fix: give it like \{\"resize\"") as refusal:
        rule_of(text, BACKBONE)

    assert refusal.value.code == "preprocessing_mismatch"


def test_the_example_of_the_refusal_works() -> None:
    assert rule_of('{"resize": "squash", "mean": [0.5, 0.5, 0.5]}', BACKBONE)
