"""The limits of tokens over HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

SIDE = 50  # 2,500 pixels


@pytest.fixture(scope="module")
def served(make_shared_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    with make_shared_parts(token="first", max_queue=8) as parts, TestClient(parts.app) as client:
        for name in ("cells", "tiles"):
            answer = client.put(f"/adapters/{name}", content=make_adapter(), headers=bearer("first"))
            assert answer.status_code == 201
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


_numbers = itertools.count()


@pytest.fixture
def limited(served: TestClient) -> Callable[..., dict[str, str]]:
    """`limited(requests_per_minute=3)` gives the headers of a new token."""

    def make(**quotas: float) -> dict[str, str]:
        body = {"name": f"t{next(_numbers)}", "scopes": ["predict", "train"], "quotas": quotas}
        return bearer(served.post("/tokens", json=body, headers=bearer("first")).json()["secret"])

    return make


def test_requests_beyond_the_quota_are_refused_with_an_honest_time(served: TestClient, limited: Any) -> None:
    headers = limited(requests_per_minute=3)

    answers = [served.get("/adapters", headers=headers) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=3;qu="requests";w=60'
    assert answers[0].headers["RateLimit"] == '"requests";r=2;t=20'
    refused = answers[3]
    assert refused.json()["code"] == "quota_exceeded"
    assert 15 <= int(refused.headers["Retry-After"]) == refused.json()["retry_after_s"] <= 20
    assert '"requests";r=0' in refused.headers["RateLimit"]
    assert refused.headers["X-Request-Id"]


def test_bytes_are_charged_by_the_stated_length_before_they_are_read(served: TestClient, limited: Any) -> None:
    headers = limited(bytes_per_minute=1000)

    for length, status in ((600, 415), (600, 429), (1001, 413), (400, 415)):
        answer = served.post("/predict?adapter=cells", content=b"x" * length, headers=headers)
        assert answer.status_code == status, answer.text


def test_a_body_without_a_stated_length_is_charged_as_it_arrives(served: TestClient, limited: Any) -> None:
    headers = limited(bytes_per_minute=1000)

    def body() -> Iterator[bytes]:
        yield from (b"x" * 350, b"y" * 350)

    statuses = [served.post("/predict?adapter=cells", content=body(), headers=headers).status_code for _ in range(2)]

    assert statuses == [415, 429]


def test_pixels_are_charged_by_the_header_times_the_adapters(
    served: TestClient, limited: Any, make_png: MakePng
) -> None:
    headers = limited(pixels_per_minute=4 * SIDE * SIDE)
    image = make_png(size=(SIDE, SIDE))

    def used() -> float:
        found: float = served.get("/whoami", headers=headers).json()["used"]["pixels_per_minute"]
        return found / SIDE / SIDE

    assert served.post("/predict?adapter=cells", content=image, headers=headers).status_code == 200
    assert used() == pytest.approx(1, abs=0.3)  # it is paid off in a minute
    assert served.post("/predict?adapter=cells,tiles", content=image, headers=headers).status_code == 200
    assert used() == pytest.approx(3, abs=0.4)
    assert served.post("/predict?adapter=cells,tiles", content=image, headers=headers).status_code == 429
    large = make_png(size=(SIDE * 3, SIDE * 3))
    assert served.post("/predict?adapter=cells", content=large, headers=headers).status_code == 413
    pool = "/datasets/pool/unlabelled?who=reader1"
    assert served.post(pool, content=large, headers=headers).status_code == 413
    assert served.post("/explain?adapter=cells", content=large, headers=headers).status_code == 413


def test_a_request_larger_than_the_share_of_the_queue_never_fits(
    served: TestClient, limited: Any, make_png: MakePng
) -> None:
    headers = limited(queue_share=0.25)
    files = [("file", (f"{n}.png", make_png(n), "image/png")) for n in range(3)]

    assert served.post("/predict?adapter=cells", files=files[:2], headers=headers).status_code == 200
    assert served.post("/predict?adapter=cells", files=files, headers=headers).status_code == 413
    assert served.get("/whoami", headers=headers).json()["used"] == {"queue_share": 0.0}


def test_what_the_server_refuses_for_its_own_reasons_is_refunded(
    served: TestClient, limited: Any, make_png: MakePng
) -> None:
    headers = limited(requests_per_minute=60, pixels_per_minute=10**9, bytes_per_minute=10**9)
    files = [("file", (f"{n}.png", make_png(n), "image/png")) for n in range(9)]  # more than the queue holds

    answer = served.post("/predict?adapter=cells", files=files, headers=headers)

    assert answer.status_code in (413, 429)
    if answer.status_code == 429:
        used = served.get("/whoami", headers=headers).json()["used"]
        assert used["requests_per_minute"] <= 1  # that of /whoami
        assert used["pixels_per_minute"] == used["bytes_per_minute"] == 0


def test_an_unlimited_token_sees_no_limits(served: TestClient) -> None:
    answer = served.get("/adapters", headers=bearer("first"))

    assert "RateLimit" not in answer.headers
