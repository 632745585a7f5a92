"""A labelling interface is read without entities, and a prediction has the form that Label Studio stores."""

from __future__ import annotations

import pytest

from lensmount_service.errors import RequestInvalid
from lensmount_service.web.labelstudio import Control, Task, control_of, image_of, prediction


def test_choices_are_found_with_the_image_that_they_are_for() -> None:
    config = (
        '<View><!-- two images --><Image name="x" value="$other"/><Image name="y" value="$scan"/>'
        '<Choices name="c" toName="y"><Choice value="A" alias="a"/><Choice value="b"/></Choices></View>'
    )

    assert control_of(config) == Control("c", "y", "scan", ("a", "b"))


def test_entities_are_refused_before_they_grow() -> None:
    with pytest.raises(RequestInvalid, match="found a declaration"):
        control_of('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>')


def test_a_data_url_gives_its_bytes() -> None:
    assert image_of(Task(data={"scan": "data:image/png;base64,aGk="}), "scan") == b"hi"


def test_the_best_label_is_the_choice() -> None:
    made = prediction(Control("c", "y", "scan", ()), ["a", "b"], [0.25, 0.75], "sha256:1")

    assert made["result"] == [{"from_name": "c", "to_name": "y", "type": "choices", "value": {"choices": ["b"]}}]
    assert (made["score"], made["model_version"]) == (0.75, "sha256:1")
