"""Each answer says whether it can be relied on, and a strict request gets no label where it cannot."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, Preprocessing, admit, decode_image, load_backbone, parse_adapter, preprocess
from lensmount_adapters.adapter.trust import Conformal, Selective
from lensmount_service.store.registry import Version
from lensmount_service.web.judgement import promised_score
from lensmount_service.web.schemas import Prediction, Predictions

if TYPE_CHECKING:
    from tests.service.conftest import MakePng, MakeTrusted

ALWAYS = Selective(accuracy=0.99, threshold=0.0, share=1.0, images=90)
NEVER = Selective(accuracy=0.99, threshold=1.0, share=0.0, images=90)


@pytest.fixture(scope="module")
def client(shared_client: TestClient, make_trusted: MakeTrusted) -> TestClient:
    """Next to `cells`, which promises nothing: `sure` accepts every image that it knows, `shy` accepts none."""
    for name, data in {
        "sure": make_trusted(selective=ALWAYS),
        "shy": make_trusted(selective=NEVER),
        "blind": make_trusted(selective=ALWAYS, familiarity=None, calibration=None, conformal=None),
    }.items():
        assert shared_client.put(f"/adapters/{name}", content=data).status_code == 201
    return shared_client


def ask(client: TestClient, adapter: str, image: bytes, **more: str) -> Any:
    answer = client.post("/predict", params={"adapter": adapter, **more}, content=image)
    assert answer.status_code == 200, answer.text
    return answer.json()


def expected_percentile(data: bytes, backbone: Backbone, image: bytes) -> float:
    """By plain torch and the inverse of the whole covariance matrix, in float64."""
    adapter = admit(data, backbone)
    assert adapter.trust is not None
    statistics, familiarity = adapter.trust.statistics, adapter.trust.block.familiarity
    assert statistics is not None
    assert familiarity is not None
    x = preprocess(decode_image(image), cast(Preprocessing, adapter.manifest.preprocessing))
    module = load_backbone("test_resnet", "random:0").module.double()
    seen: list[torch.Tensor] = []
    module.get_submodule("layer3").register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        module(x.double()[None])
    pooled = seen[0].mean((2, 3))[0].numpy()
    basis = statistics.basis.astype(np.float64)
    along = basis.T @ np.diag(statistics.scales.astype(np.float64) ** 2) @ basis
    covariance = along + statistics.residual**2 * (np.eye(192) - basis.T @ basis)
    z = pooled - statistics.means.astype(np.float64)
    distance = np.einsum("cd,de,ce->c", z, np.linalg.inv(covariance), z).min()
    return float(np.interp(distance, familiarity.quantiles, np.arange(101)))


def test_the_answer_says_what_it_rests_on(
    client: TestClient, make_trusted: MakeTrusted, make_png: MakePng, backbone: Backbone
) -> None:
    body = ask(client, "sure", make_png())

    scores = {each["label"]: each["score"] for each in body["predictions"]}
    trust = body["trust"]
    assert trust["decision"] == "accept"
    assert trust["confidence"] == max(scores.values())
    # "yes" has too few images for a threshold and is always inside; "no" is if 1 - score is at most 0.4
    assert trust["set"] == (["no", "yes"] if scores["no"] >= 0.6 else ["yes"])
    assert trust["calibration"] == {"images": 90, "ece": 0.02, "coverage": 0.95}
    assert trust["unfamiliarity"]["flag"] is False
    expected = expected_percentile(make_trusted(selective=ALWAYS), backbone, make_png())
    assert 1 < expected < 99
    assert trust["unfamiliarity"]["percentile"] == pytest.approx(expected, abs=0.01)
    assert body["abstained"] is None


def test_an_adapter_that_measured_nothing_or_little_says_so(client: TestClient, make_png: MakePng) -> None:
    assert ask(client, "cells", make_png())["trust"] is None
    trust = ask(client, "blind", make_png())["trust"]
    assert (trust["set"], trust["unfamiliarity"], trust["calibration"]) == (None, None, None)
    assert trust["decision"] == "accept"


def test_every_result_of_several_adapters_and_images_has_its_own_decision(
    client: TestClient, make_png: MakePng
) -> None:
    files = [("file", ("one.png", make_png(1))), ("file", ("two.png", make_png(2)))]
    results = client.post("/predict?adapter=sure,cells,shy", files=files).json()["results"]

    decisions = [result["trust"] and result["trust"]["decision"] for result in results]
    assert decisions == ["accept", None, "uncertain"] * 2
    alone = ask(client, "sure", make_png(2))["trust"]
    assert results[3]["trust"]["unfamiliarity"] == pytest.approx(alone["unfamiliarity"], abs=0.01)


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        ("shy", "shy@1 is not sure enough of this image (confidence 0."),
        ("cells", "cells@1 promises nothing about its answers. Fix: train it with calibration"),
    ],
)
def test_a_strict_request_gets_no_label_where_the_adapter_cannot_vouch_for_one(
    client: TestClient, adapter: str, reason: str, make_png: MakePng
) -> None:
    usual, strict = ask(client, adapter, make_png()), ask(client, adapter, make_png(), decision="strict")

    assert (len(usual["predictions"]), usual["abstained"]) == (2, None)
    assert strict["predictions"] == []
    assert strict["abstained"].startswith(reason)
    assert ask(client, adapter, make_png(), decision="always")["predictions"] == usual["predictions"]


def test_a_strict_request_gets_labels_where_the_answer_is_accepted(client: TestClient, make_png: MakePng) -> None:
    files = [("file", ("one.png", make_png(1))), ("file", ("two.png", make_png(2)))]
    results = client.post("/predict?adapter=sure,shy&decision=strict&top_k=1", files=files).json()["results"]

    assert [len(result["predictions"]) for result in results] == [1, 0, 1, 0]
    assert [result["abstained"] is None for result in results] == [True, False, True, False]


def test_the_operators_thresholds_decide_for_their_alias_alone(client: TestClient, make_png: MakePng) -> None:
    def decided(adapter: str) -> str:
        return str(ask(client, adapter, make_png())["trust"]["decision"])

    def point(name: str, alias: str, **trust: float) -> None:
        body = {"version": 1, "trust": trust}
        assert client.put(f"/adapters/{name}/aliases/{alias}", json=body).status_code == 200

    point("shy", "bold", accept_confidence=0.0)
    point("sure", "careful", accept_confidence=1.0)
    point("sure", "picky", unfamiliar_percentile=0.5)
    assert [decided(name) for name in ("shy", "shy:bold", "shy@1")] == ["uncertain", "accept", "uncertain"]
    assert [decided(name) for name in ("sure", "sure:careful")] == ["accept", "uncertain"]
    assert decided("sure:picky") == "unfamiliar"
    strict = ask(client, "sure:picky", make_png(), decision="strict")
    assert strict["predictions"] == []
    assert strict["abstained"].startswith("the image is unlike those that sure@1 was trained on (percentile ")
    point("sure", "picky")
    assert decided("sure:picky") == "accept"


def test_decisions_are_counted_by_adapter(client: TestClient, make_png: MakePng) -> None:
    def counted(decision: str) -> float:
        name = f'lensmount_decisions_total{{adapter="shy",decision="{decision}"}} '
        lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
        return float(lines[0].removeprefix(name)) if lines else 0.0

    before = counted("uncertain")
    ask(client, "shy", make_png())
    ask(client, "shy", make_png(), decision="strict")
    assert counted("uncertain") == before + 2
    assert 'adapter="cells",decision' not in client.get("/metrics").text


def test_statistics_of_another_width_leave_unfamiliarity_unknown(
    client: TestClient,
    backbone: Backbone,
    draw_adapter: Any,
    draw_trust: Any,
    make_trusted: MakeTrusted,
    make_png: MakePng,
) -> None:
    from lensmount_adapters import dump_adapter, parse_adapter

    narrow, tensors = draw_trust(backbone, draw_adapter(backbone, modules=r"layer4\..*"), width=24)
    trust = parse_adapter(make_trusted()).manifest.trust
    assert trust is not None
    data = dump_adapter(narrow.model_copy(update={"trust": trust.model_copy(update={"of": narrow.trust.of})}), tensors)
    assert client.put("/adapters/narrow", content=data).status_code == 201

    assert ask(client, "narrow", make_png())["trust"]["unfamiliarity"] is None


def test_the_answers_match_the_documented_schema(client: TestClient, make_png: MakePng) -> None:
    """The route writes its JSON itself."""
    for decision in ("always", "strict"):
        one = ask(client, "shy", make_png(), decision=decision)
        several = ask(client, "sure,shy,cells", make_png(), decision=decision)
        assert Prediction.model_validate_json(json.dumps(one)).model_dump() == one
        assert Predictions.model_validate_json(json.dumps(several)).model_dump() == several


def test_an_unknown_decision_is_refused(client: TestClient, make_png: MakePng) -> None:
    refused = client.post("/predict?adapter=sure&decision=never", content=make_png())
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "always" in refused.json()["detail"]


def test_sets_of_many_labels_are_in_the_order_of_the_labels(
    client: TestClient, make_trusted: MakeTrusted, make_png: MakePng
) -> None:
    every = Conformal(coverage=0.95, method="lac", thresholds=(None, None), images=(3, 3))
    unsure = make_trusted(conformal=every, selective=None)
    assert client.put("/adapters/unsure", content=unsure).status_code == 201
    trust = ask(client, "unsure", make_png())["trust"]
    assert (trust["set"], trust["decision"]) == (["no", "yes"], "uncertain")


@pytest.mark.parametrize(
    ("metrics", "promised"),
    [
        ({"test": {"accuracy": 0.94}, "validation": {"accuracy": 0.97}}, 0.94),
        ({"validation": {"accuracy": 1}}, 1.0),
        ({"test": {"accuracy": 94}}, None),
        ({"test": {"accuracy": "high"}, "validation": []}, None),
        ([0.94], None),
        (None, None),
    ],
)
def test_a_calibrated_adapter_promises_the_accuracy_that_its_file_states(
    make_trusted: MakeTrusted, metrics: Any, promised: float | None
) -> None:
    manifest = parse_adapter(make_trusted()).manifest.model_copy(update={"training": {"metrics": metrics}})
    version = Version("cells", 1, "sha256:0", 1, "", manifest)
    assert promised_score(version) == promised
    trust = cast("Any", manifest.trust).model_copy(update={"calibration": None})
    uncalibrated = dataclasses.replace(version, manifest=manifest.model_copy(update={"trust": trust}))
    assert promised_score(uncalibrated) is None
