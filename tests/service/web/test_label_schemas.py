"""The body of labels is strict: a name that can be shown, digests, and at least one label."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from pydantic import ValidationError

import lensmount_client
from lensmount_adapters.active.strategies import STRATEGIES
from lensmount_client._api import labelling
from lensmount_service.routes.labelling.next_images import StrategyName
from lensmount_service.web import label_schemas
from lensmount_service.web.label_schemas import GivenLabels

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize("who", ["reader1", "reader1 B.", "reader1@example.org", "安", "x" * 64])
def test_a_name_that_can_be_shown_is_taken(who: str) -> None:
    assert GivenLabels(who=who, labels={DIGEST: "cat"}).who == who


@pytest.mark.parametrize("who", ["", " reader1", "a\nb", "a\x00", "x" * 65])
def test_another_name_is_refused(who: str) -> None:
    with pytest.raises(ValidationError):
        GivenLabels(who=who, labels={DIGEST: "cat"})


@pytest.mark.parametrize("labels", [{}, {"x": "cat"}, {DIGEST: 1}, {DIGEST.upper(): "cat"}])
def test_labels_need_digests_and_text(labels: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GivenLabels.model_validate({"who": "reader1", "labels": labels})


@pytest.mark.parametrize("name", ["UnlabelledImage", "NextImage", "NextImages", "LabelInfo", "Feedback"])
def test_a_document_has_the_same_fields_in_the_client(name: str) -> None:
    client = {field.name for field in dataclasses.fields(getattr(lensmount_client, name))}

    assert client == set(getattr(label_schemas, name).model_fields)


def test_client_server_and_library_know_the_same_strategies() -> None:
    assert set(labelling.STRATEGIES) == set(STRATEGIES) == set(typing.get_args(StrategyName))
