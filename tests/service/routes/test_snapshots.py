"""Which version of an alias with a rollout answers: over every route, on every server, and if the canary cannot."""

from __future__ import annotations

import asyncio
import base64
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from lensmount_adapters import Adapter
from lensmount_service.access.identity import LOOPBACK
from lensmount_service.build import Parts
from lensmount_service.rollouts.choice import Keys
from lensmount_service.routes.snapshots import snapshot_of
from lensmount_service.store.references import Reference

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Until

ALIAS = "/adapters/cells/aliases/prod"
PROD = Reference("cells", alias="prod")
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="label" toName="image">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)


@pytest.fixture(scope="module")
def parts(make_shared_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[Parts]:
    """`cells` has two versions."""
    with make_shared_parts(feedback="on") as parts:
        for seed in (1, 2):
            parts.catalog.upload("cells", make_adapter(seed))
        yield parts


@pytest.fixture(scope="module")
def server(parts: Parts) -> Iterator[TestClient]:
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def api(server: TestClient) -> Iterator[TestClient]:
    yield server
    server.delete(ALIAS)


def start(api: TestClient, percent: float = 50, key: str = "header:Patient", **more: Any) -> None:
    body = {"stable": 1, "canary": {"version": 2, "percent": percent, "key": key}, **more}
    answer = api.put(ALIAS, json=body)
    assert answer.status_code == 200, answer.text


def versions_of(parts: Parts, every: Sequence[Keys]) -> list[int]:
    """The versions that answer requests with these keys on a server, without computing anything."""
    seen = parts.app.state.context.seen_by(LOOPBACK)

    async def ask() -> list[int]:
        return [(await snapshot_of(seen, PROD, lambda keys=keys: keys)).version.version for keys in every]  # type: ignore[misc]

    return asyncio.run(ask())


def answered_by(parts: Parts, keys: Keys) -> int:
    return versions_of(parts, [keys])[0]


def patient(name: str) -> Keys:
    return Keys("any", "any", Headers({"patient": name}))


def sides(parts: Parts, count: int = 60) -> list[int]:
    return versions_of(parts, [patient(f"p{number}") for number in range(count)])


def test_every_route_that_answers_images_chooses_the_same_version(
    api: TestClient, parts: Parts, make_png: MakePng
) -> None:
    start(api)
    encoded = base64.b64encode(make_png()).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]}
    tasks = {"tasks": [{"id": 1, "data": {"image": f"data:image/png;base64,{encoded}"}}], "label_config": CONFIG}
    digests = {number: api.get(f"/adapters/cells/versions/{number}").json()["digest"] for number in (1, 2)}
    found = Counter[int]()
    for number in range(6):
        headers = {"Patient": f"p{number}"}
        version = answered_by(parts, patient(f"p{number}"))
        found[version] += 1
        predicted = api.post("/predict?adapter=cells:prod", content=make_png(), headers=headers).json()
        assert predicted["adapter"] == {"name": "cells", "version": version, "digest": digests[version]}
        several = api.post("/predict?adapter=cells@1,cells:prod", content=make_png(), headers=headers).json()
        assert [each["adapter"]["version"] for each in several["results"]] == [1, version]
        inferred = api.post("/v2/models/cells/versions/prod/infer", json={"inputs": [tensor]}, headers=headers).json()
        assert (inferred["model_version"], inferred["parameters"]["digest"]) == (str(version), digests[version])
        explained = api.post("/explain?adapter=cells:prod&label=a", content=make_png(), headers=headers).json()
        assert explained["adapter"]["version"] == version
        studio = api.post("/integrations/labelstudio/cells:prod/predict", json=tasks, headers=headers).json()
        assert studio["model_version"] == digests[version]
    assert set(found) == {1, 2}


def test_a_snapshot_says_on_which_side_of_the_rollout_it_is_and_where_its_key_falls(
    api: TestClient, parts: Parts
) -> None:
    start(api)
    rollout = parts.catalog.resolve(PROD).version.rollout
    assert rollout is not None
    seen = parts.app.state.context.seen_by(LOOPBACK)
    for number in range(20):
        found = asyncio.run(snapshot_of(seen, PROD, lambda number=number: patient(f"p{number}")))  # type: ignore[misc]
        assert (found.version.rollout, found.version.alias) == (rollout, "prod")
        assert found.place is not None
        assert rollout.side_of(found.version.version) == ("canary" if found.place < 0.5 else "stable")


def test_what_only_names_an_alias_means_its_stable_version(api: TestClient, make_png: MakePng) -> None:
    start(api, 100)
    headers = {"Patient": "p1"}
    assert api.get(ALIAS).json()["version"] == 1
    assert api.get("/v2/models/cells/versions/prod").json()["name"] == "cells"
    setup = api.post("/integrations/labelstudio/cells:prod/setup", headers=headers).json()
    assert setup["model_version"] == api.get(ALIAS).json()["digest"]
    kept = api.post("/feedback?adapter=cells:prod&label=a&who=reader1", content=make_png(), headers=headers).json()
    assert kept["adapter"]["version"] == 1


def test_feedback_by_an_alias_corrects_the_version_that_answered_also_when_the_rollout_is_over(
    api: TestClient, make_png: MakePng
) -> None:
    start(api)
    answers = {}
    for number in range(6):
        answer = api.post("/predict?adapter=cells:prod", content=make_png(number), headers={"Patient": f"p{number}"})
        answers[answer.json()["request_id"]] = answer.json()["adapter"]["version"]
    assert set(answers.values()) == {1, 2}
    for end in (None, "rollback"):
        if end is not None:
            assert api.post(f"/adapters/cells/rollouts/prod/{end}").status_code == 200
        for request_id, version in answers.items():
            url = f"/feedback?adapter=cells:prod&label=a&who=reader1&request_id={request_id}"
            assert api.post(url).json()["adapter"]["version"] == version


def test_a_tenth_of_ten_thousand_requests_gets_the_canary(api: TestClient, parts: Parts) -> None:
    start(api, 10, "request")
    found = Counter(versions_of(parts, [Keys(f"{number:032x}", "any", {}) for number in range(10_000)]))
    assert 910 <= found[2] <= 1090
    assert found.total() == 10_000


def test_the_same_key_gets_the_same_version_on_another_server_and_after_a_restart(
    make_parts: MakeParts, make_adapter: MakeAdapter, until: Until
) -> None:
    with make_parts() as one, TestClient(one.app, base_url="http://127.0.0.1") as api:
        for seed in (1, 2):
            api.put("/adapters/cells", content=make_adapter(seed))
        start(api)
        first = sides(one)
        assert set(first) == {1, 2}
        with make_parts() as other, TestClient(other.app, base_url="http://127.0.0.1"):
            assert answered_by(other, patient(f"p{first.index(2)}")) == 1  # until it has prepared the canary
            until(lambda: sides(other, 20) == first[:20])
            assert sides(other) == first
        start(api, 80)  # the other side of who was in stays in
        more = sides(one)
        assert all(after >= before for before, after in zip(first, more, strict=True))
        assert more != first
    with make_parts() as again, TestClient(again.app, base_url="http://127.0.0.1"):
        until(lambda: sides(again) == more)


def test_the_thresholds_of_the_alias_hold_for_the_canary(
    api: TestClient, make_trusted: Callable[..., bytes], make_png: MakePng
) -> None:
    for data in (make_trusted(), make_trusted(selective=None)):
        assert api.put("/adapters/sure", content=data).status_code == 201
    path = "/adapters/sure/aliases/prod"
    body = {"stable": 1, "canary": {"version": 2, "percent": 100}, "trust": {"accept_confidence": 1.0}}
    assert api.put(path, json=body).status_code == 200
    strict = api.post("/predict?adapter=sure:prod", content=make_png()).json()
    assert strict["adapter"]["version"] == 2
    assert strict["trust"]["decision"] != "accept"
    assert api.put(path, json={**body, "trust": {"accept_confidence": 0.0, "unfamiliar_percentile": 100}}).is_success
    lax = api.post("/predict?adapter=sure:prod", content=make_png()).json()
    assert (lax["adapter"]["version"], lax["predictions"]) == (2, strict["predictions"])
    assert lax["trust"]["decision"] != strict["trust"]["decision"]


def test_a_canary_that_was_deleted_or_is_damaged_leaves_the_answer_to_the_stable_version(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        for seed in (1, 2):
            api.put("/adapters/cells", content=make_adapter(seed))
        start(api, 100, "request")
        ask = partial(api.post, "/predict?adapter=cells:prod", content=make_png())
        ready, rollout = parts.app.state.context.choice.ready, api.get(ALIAS).json()["rollout"]["id"]
        assert ask().json()["adapter"]["version"] == 2

        digest = api.get("/adapters/cells/versions/2").json()["digest"]
        parts.engine.quarantine.damaged(digest, "its file is damaged")
        assert [ask().json()["adapter"]["version"] for _ in range(3)] == [1, 1, 1]
        assert ready.trouble(rollout, 2) == "adapter_corrupt"
        assert api.get("/adapters/cells/rollouts/prod").json()["rollout"]["ready"] is False

        ready.mark(rollout, 2)
        api.delete("/adapters/cells/versions/2")
        assert [ask().json()["adapter"]["version"] for _ in range(3)] == [1, 1, 1]
        assert ready.trouble(rollout, 2) == "version_deleted"


def test_a_canary_whose_program_is_not_made_yet_keeps_nobody_waiting(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        for seed in (1, 2):
            api.put("/adapters/cells", content=make_adapter(seed))
        start(api, 100, "request")
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        gate, runner = threading.Event(), parts.engine.runner
        prepare, ready = runner.prepare, runner.ready
        canary = api.get("/adapters/cells/versions/2").json()["digest"]
        monkeypatch.setattr(runner, "ready", lambda adapter: adapter.digest != canary and ready(adapter))

        def wait_and_prepare(adapter: Adapter) -> None:
            assert adapter.digest != canary or gate.wait(30)
            prepare(adapter)

        monkeypatch.setattr(runner, "prepare", wait_and_prepare)
        versions = [api.post("/predict?adapter=cells:prod", content=make_png()).json()["adapter"] for _ in range(5)]
        assert {version["version"] for version in versions} == {1}
        monkeypatch.setattr(runner, "ready", ready)
        gate.set()
        ask = partial(api.post, "/predict?adapter=cells:prod", content=make_png())
        until(lambda: ask().json()["adapter"]["version"] == 2)


@pytest.mark.parametrize(("rollouts", "clients"), [(3, 4), pytest.param(50, 16, marks=pytest.mark.soak)])
def test_no_request_fails_while_rollouts_start_and_end(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, rollouts: int, clients: int
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        api.put("/adapters/cells", content=make_adapter(1))
        api.put(ALIAS, json={"version": 1})
        ended, found = threading.Event(), Counter[tuple[int, int]]()
        numbers = itertools.count()

        def ask() -> None:
            while not ended.is_set():
                answer = api.post("/predict?adapter=cells:prod", content=make_png(next(numbers) % 50))
                found[answer.status_code, answer.json().get("adapter", {}).get("version", 0)] += 1

        threads = [threading.Thread(target=ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            stable = 1
            for number in range(rollouts):
                version = api.put("/adapters/cells", content=make_adapter(2 + number % 7)).json()["version"]
                canary = {"version": version, "percent": 50, "key": "request"}
                assert api.put(ALIAS, json={"stable": stable, "canary": canary}).status_code == 200
                before = found.total()
                while found.total() < before + 2 * clients:
                    assert all(thread.is_alive() for thread in threads)
                    ended.wait(0.01)
                end, stable = ("promote", version) if number % 2 else ("rollback", stable)
                assert api.post(f"/adapters/cells/rollouts/prod/{end}").json()["version"] == stable
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert {status for status, _ in found} == {200}
        assert len({version for _, version in found}) > rollouts // 2
