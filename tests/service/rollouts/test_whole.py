"""A whole server: requests and labels are counted for the rollout, and a candidate that answers worse is taken back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Until

ROLLOUT = {"stable": 1, "canary": {"version": 2, "percent": 50}, "rules": {"after": 10}}


@pytest.fixture
def api(make_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    """A server that keeps feedback, with the adapter `cells` in two versions."""
    with make_parts(feedback="on") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for labels in (("a", "b"), ("b", "a")):  # so the second one always gives the other label
            client.put("/adapters/cells", content=make_adapter(1, labels)).raise_for_status()
        yield client


def start(api: TestClient, until: Until, **changes: Any) -> None:
    api.put("/adapters/cells/aliases/prod", json={**ROLLOUT, **changes}).raise_for_status()
    until(lambda: report(api)["rollout"]["ready"])


def report(api: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/adapters/cells/rollouts/prod").raise_for_status().json()
    return found


def answer(api: TestClient, data: bytes, adapter: str = "cells:prod") -> dict[str, Any]:
    found: dict[str, Any] = api.post(f"/predict?adapter={adapter}", content=data).raise_for_status().json()
    return found


def test_requests_of_every_protocol_are_counted_by_the_side_that_answers(
    api: TestClient, make_png: MakePng, until: Until
) -> None:
    start(api, until)
    versions = [answer(api, make_png(number))["adapter"]["version"] for number in range(12)]
    alone = {"Inference-Header-Content-Length": "0"}
    for number in range(4):
        api.post("/v2/models/cells:prod/infer", content=make_png(number), headers=alone).raise_for_status()
    assert api.post("/predict?adapter=cells:prod", content=b"no image").status_code == 415
    answer(api, make_png(), "cells@2")  # not by the alias, so not of the rollout
    told = report(api)
    sides = told["sides"]
    assert sides["stable"]["requests"] + sides["canary"]["requests"] == 12 + 4 + 1
    assert sides["stable"]["images"] + sides["canary"]["images"] == 16
    assert sides["canary"]["images"] >= versions.count(2)
    (errors,) = [side["errors"] for side in sides.values() if side["errors"]]
    assert list(errors.values()) == [1]
    assert told["share"] == pytest.approx(sides["canary"]["requests"] / 17)
    assert sum(sum(side["labels"].values()) for side in sides.values()) == 16


def test_a_candidate_that_answers_otherwise_than_people_say_is_taken_back(
    api: TestClient, make_png: MakePng, until: Until
) -> None:
    """People say what the stable version says. They do so by the answer's request id, whichever side answered."""
    start(api, until)
    sides = set()
    for number in range(80):
        data = make_png(number)
        right = answer(api, data, "cells@1")["predictions"][0]["label"]
        given = answer(api, data)
        sides.add(given["adapter"]["version"])
        version = given["adapter"]["version"]  # because the rollout may have ended since
        url = f"/feedback?adapter=cells@{version}&label={right}&who=reader1&request_id={given['request_id']}"
        assert api.post(url).status_code == 201
        if number % 20 == 19 and report(api)["rollout"] is None:
            break
    until(lambda: report(api)["rollout"] is None)
    assert sides == {1, 2}
    assert answer(api, make_png())["adapter"]["version"] == 1
    event = report(api)["events"][0]
    assert (event["what"], event["actor"]) == ("rolled_back", None)
    assert {finding["rule"] for finding in event["evidence"]["findings"]} == {"worse_on_labels"}
    labelled = event["evidence"]["labelled"]
    assert labelled["stable"]["accuracy"] == 1
    assert labelled["candidate"]["accuracy"] == 0
    metrics = api.get("/metrics").text
    assert 'lensmount_rollbacks_total{rule="worse_on_labels"} 1.0' in metrics
    until(lambda: "rollback by rule: worse_on_labels" in json.dumps(api.get("/audit").json()))


def test_feedback_succeeds_when_versions_cannot_be_compared(
    api: TestClient, make_adapter: MakeAdapter, make_png: MakePng, until: Until
) -> None:
    api.put("/adapters/cells", content=make_adapter(3, ("a", "c"))).raise_for_status()
    start(api, until, canary={"version": 3, "percent": 50})
    assert api.post("/feedback?adapter=cells:prod&label=a&who=reader1", content=make_png()).status_code == 201
    assert report(api)["labelled"] is None


def annotation(image: bytes, label: str, seen: str | None) -> dict[str, Any]:
    """What Label Studio sends. `seen` is the version of the prediction that the annotator saw."""
    choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
    config = (
        '<View><Image name="image" value="$image"/><Choices name="label" toName="image"><Choice value="a"/></Choices>'
    )
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {"completed_by": 3, "result": [choice], "prediction": {"id": 5, "model_version": seen}},
        "task": {"id": 1, "data": {"image": f"data:image/png;base64,{base64.b64encode(image).decode()}"}},
        "project": {"label_config": f"{config}</View>"},
    }


def test_labels_of_label_studio_and_of_a_pool_are_evidence_too(
    api: TestClient, make_png: MakePng, until: Until
) -> None:
    start(api, until, rules={"after": 1000})
    digests = [api.get(f"/adapters/cells/versions/{number}").json()["digest"] for number in (1, 2)]
    hook, gives = "/integrations/labelstudio/cells:prod/webhook", []
    for number, seen in enumerate((None, *digests, f"sha256:{'0' * 64}")):
        sent = api.post(hook, json=annotation(make_png(number), "a", seen)).raise_for_status().json()
        gives.append(sent["digest"])
    until(lambda: (report(api)["labelled"] or {}).get("images") == 4)
    assert report(api)["labelled"]["stable"]["accuracy"] + report(api)["labelled"]["candidate"]["accuracy"] == 1
    labels = api.get("/datasets/cells-feedback/labels").json()["labels"]
    assert [each["adapter"].split()[0] for each in labels] == ["cells@1", "cells@1", "cells@2", "cells@1"]

    before = report(api)["labelled"]["stable"]["accuracy"]
    new = api.post("/datasets/cells-feedback/unlabelled?who=reader2", content=make_png(9)).json()["images"][0]["digest"]
    said = dict.fromkeys((*gives, new), "b")  # a second person, who says the opposite of everything
    api.post("/datasets/cells-feedback/labels", json={"who": "reader2", "labels": said}).raise_for_status()
    until(lambda: report(api)["labelled"]["stable"]["accuracy"] == 1 - before)
    assert report(api)["labelled"]["images"] == 4  # nobody's answer brought the new image there
