"""What a prediction says about itself, and what a strict one withholds."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.client.answers import PREDICTION, answering, good, mocked

from lensmount_client import (
    AsyncClient,
    Client,
    Fallback,
    InvalidInput,
    Prediction,
    PredictionError,
    Trust,
    TrustBasis,
    UnexpectedResponse,
    Unfamiliarity,
)

TRUST: dict[str, Any] = {
    "decision": "uncertain",
    "confidence": 0.7,
    "set": ["parasitized", "uninfected"],
    "unfamiliarity": {"percentile": 37.5, "flag": False},
    "calibration": {"images": 412, "ece": 0.02, "coverage": 0.95},
}


def predicted(**changes: Any) -> Prediction:
    handle, _ = answering(good(**changes))
    with mocked(handle) as client:
        return client.predict(b"image", "malaria")


def test_trust_is_read_part_by_part() -> None:
    basis, unlike = TrustBasis(412, 0.02, 0.95), Unfamiliarity(37.5, False)
    assert predicted(trust=TRUST, abstained=None).trust == Trust(
        "uncertain", 0.7, ("parasitized", "uninfected"), unlike, basis
    )
    missing = TRUST | {"set": None, "unfamiliarity": None, "calibration": None}
    assert predicted(trust=missing).trust == Trust("uncertain", 0.7, None, None, None)
    assert predicted(trust=TRUST | {"set": []}).trust == Trust("uncertain", 0.7, (), unlike, basis)


def test_an_adapter_that_promises_nothing_and_an_older_server_have_no_trust() -> None:
    assert predicted(trust=None, abstained=None).trust is None
    assert predicted().trust is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trust": "yes"}, "trust: found 'yes', expected an object"),
        ({"trust": TRUST | {"decision": 1}}, "trust.decision: found 1, expected a string"),
        ({"trust": TRUST | {"set": "a"}}, "trust.set: found 'a', expected a list"),
        ({"trust": TRUST | {"unfamiliarity": {"percentile": 1}}}, "without trust.unfamiliarity.flag"),
        ({"predictions": []}, r"without predictions\[0\]"),  # only an answer that abstains has none
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnexpectedResponse, match=message):
        predicted(**changes)


def test_a_strict_request_says_so_and_its_answer_may_have_no_label(server: Any) -> None:
    with Client(server.url) as client:
        sure = client.predict(b"cell", "malaria", decision="strict")
        assert (sure.label, sure.abstained) == ("cell", None)
        odd = client.predict(b"odd cell", "malaria", decision="strict")
        assert (odd.label, odd.predictions, odd.abstained) == (None, (), "because of unfamiliar")
        assert odd.trust is not None
        assert odd.trust.unfamiliarity == Unfamiliarity(99.5, True)
        assert client.predict(b"odd cell", "malaria").label == "odd cell"
        several = client.predict(b"dim cell", ["malaria", "smoking"], decision="strict")
        assert [each.label for each in several] == [None, None]
        outcomes = client.predict_many([b"cell", b"dim"], "malaria", decision="strict")
        assert [outcome.prediction and outcome.prediction.label for outcome in outcomes] == ["cell", None]


def test_the_async_client_asks_the_same(server: Any) -> None:
    async def run() -> None:
        async with AsyncClient(server.url) as client:
            assert (await client.predict(b"odd", "malaria", decision="strict")).label is None
            outcomes = [each async for each in client.predict_many([b"dim"], "malaria", decision="strict")]
            assert [outcome.prediction and outcome.prediction.label for outcome in outcomes] == [None]
            with pytest.raises(InvalidInput, match="decision: found 'no', expected 'always' or 'strict'"):
                client.predict_many([b"a"], "malaria", decision="no")

    asyncio.run(run())


def test_an_older_server_is_not_believed_to_be_strict(server: Any) -> None:
    with Client(server.url) as client:
        with pytest.raises(UnexpectedResponse, match=r'does not know decision="strict". Fix: '):
            client.predict(b"old", "malaria", decision="strict")
        assert client.predict(b"old", "malaria").label == "old"


@pytest.mark.parametrize("decision", ["Strict", "", None, True])
def test_a_decision_of_another_name_is_refused_before_anything_is_sent(decision: Any) -> None:
    handle, seen = answering()
    with mocked(handle) as client:
        with pytest.raises(InvalidInput, match=r"decision: found .*, expected 'always' or 'strict'"):
            client.predict(b"image", "malaria", decision=decision)
        with pytest.raises(InvalidInput, match="decision"):
            client.predict_many([b"image"], "malaria", decision=decision)
    assert seen == []
    assert "trust" not in PREDICTION


def several(*results: dict[str, Any]) -> list[Prediction]:
    handle, _ = answering(httpx.Response(207, json={"results": list(results), "request_id": "r-1"}))
    with mocked(handle) as client:
        return client.predict(b"image", ["malaria"] * len(results))


FAILED: dict[str, Any] = {
    "adapter": PREDICTION["adapter"],
    "predictions": [],
    "image": {"index": 0, "name": None},
    "error": {"status": 503, "code": "adapter_quarantined", "detail": "malaria@1 is quarantined"},
}


def test_a_failed_result_is_in_its_place_and_cannot_be_read_as_a_label() -> None:
    good_one, bad = several(PREDICTION, FAILED)

    assert good_one.error is None
    assert bad.error == PredictionError(503, "adapter_quarantined", "malaria@1 is quarantined")
    for read in (lambda: bad.label, lambda: bad.top):
        with pytest.raises(LookupError, match="503 adapter_quarantined"):
            read()


def test_an_answer_of_an_earlier_version_says_which_one_was_asked_for() -> None:
    fallback = {"asked": 3, "served": 1, "code": "adapter_quarantined"}

    assert predicted(fallback=fallback).fallback == Fallback(3, 1, "adapter_quarantined")
    assert predicted(fallback=None).fallback is None


def test_a_header_that_keeps_images_of_one_patient_together_goes_with_the_request() -> None:
    handle, seen = answering(good(), good())
    with mocked(handle, token="secret") as client:
        client.predict(b"image", "malaria:prod", headers={"X-Patient": "7"})

    async def ask() -> None:
        async with AsyncClient(transport=httpx.MockTransport(handle)) as client:
            await client.predict(b"image", "malaria:prod", headers={"X-Patient": "7"})

    asyncio.run(ask())
    assert [request.headers["X-Patient"] for request in seen] == ["7", "7"]
    assert seen[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {name: "7"}
            for name in ("", "X Patient", "X:", "Authorization", "content-type", "Host", "Transfer-Encoding")
        ),
        *({"X-Patient": value} for value in ("", " 7", "7\r\nHost: x", "ü", "7" * 257, 7)),
    ],
)
def test_a_header_that_is_none_or_that_the_client_sets_is_refused(headers: Any) -> None:
    handle, seen = answering()
    with mocked(handle) as client, pytest.raises(InvalidInput, match="headers: found"):
        client.predict(b"image", "malaria", headers=headers)
    assert seen == []
