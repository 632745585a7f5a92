"""Over HTTP: a shadow changes no byte of an answer, and the evidence has what it would have answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, ExactSwapper, Preprocessing
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_service.access.identity import LOOPBACK
from lensmount_service.build import Parts
from lensmount_service.rollout_spec import Rollout, Shadow
from lensmount_service.rollouts.evidence import Scored
from lensmount_service.rollouts.ready import Ready
from lensmount_service.rollouts.shadowing import why_not
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference

if TYPE_CHECKING:
    from tests.service.conftest import CompareAnswers, MakeAdapter, MakeParts, MakePng, Until

NAMES = ("cells", "tiles")
STABLE, OTHER, SMALLER = 1, 2, 3  # the versions
CLOSE = 2e-5  # of scores: a batch of another size is summed in another order


@pytest.fixture(scope="module")
def parts(make_shared_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[Parts]:
    with make_shared_parts(hot_bytes=0) as parts:  # no program is made meanwhile that gives other last bits
        small = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        for number, name in enumerate(NAMES):
            for seed in (1, 2):
                parts.catalog.upload(name, make_adapter(10 * number + seed))
            parts.catalog.upload(name, make_adapter(3, rule=small))
        yield parts


@pytest.fixture(scope="module")
def server(parts: Parts) -> Iterator[TestClient]:
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def api(server: TestClient) -> TestClient:
    """Each of the adapters has the alias `prod`, without a rollout."""
    for name in NAMES:
        set_alias(server, name, {"version": STABLE})
    return server


def set_alias(api: TestClient, name: str, body: dict[str, Any]) -> str:
    """Returns the id of the rollout, or ""."""
    answer = api.put(f"/adapters/{name}/aliases/prod", json=body)
    assert answer.status_code == 200, answer.text
    return cast(str, (answer.json()["rollout"] or {}).get("id", ""))


def shadow_of(api: TestClient, name: str, version: int = OTHER, sample: float = 1.0) -> str:
    return set_alias(api, name, {"stable": STABLE, "shadow": {"version": version, "sample": sample}})


def ask(api: TestClient, image: bytes, references: str = "cells:prod", **headers: str) -> Any:
    answer = api.post(f"/predict?adapter={references}", content=image, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def without_times(answer: Any) -> tuple[str, list[str]]:
    """The body without what differs between any two requests, and the names of the headers."""
    document = answer.json()
    for each in (document, *document.get("results", ())):
        each.pop("request_id", None)
        each.pop("timing_ms", None)
    return json.dumps(document), list(answer.headers)


class Told:
    """What the evidence was told of shadows, by rollout."""

    def __init__(self, until: Until) -> None:
        self._until = until
        self._seen: list[tuple[str, Scored, Scored | None, str]] = []

    def __call__(self, rollout: Rollout, stable: Scored, shadow: Scored | None, why: str, seconds: float) -> None:
        assert (seconds > 0) == (shadow is not None)
        self._seen.append((rollout.id, stable, shadow, why))

    def of(self, rollout: str) -> list[tuple[Scored, Scored | None, str]]:
        return [(stable, shadow, why) for known, stable, shadow, why in self._seen if known == rollout]

    def compared(self, rollout: str, images: int) -> list[tuple[Scored, Scored]]:
        """Both answers to each image, once there are as many."""
        self._until(lambda: len(self._told(rollout)) >= images)
        found = [(stable, shadow) for stable, shadow, _ in self._told(rollout) if shadow is not None]
        assert len(found) == len(self._told(rollout)) == images
        return found

    def _told(self, rollout: str) -> list[tuple[Scored, Scored | None, str]]:
        """Without what `warm` caused."""
        return [each for each in self.of(rollout) if each[2] != "not_ready"]


@pytest.fixture
def told(parts: Parts, until: Until, monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told(until)
    monkeypatch.setattr(parts.app.state.context.shadowing.evidence, "shadowed", told)
    return told


def warm(api: TestClient, parts: Parts, until: Until, name: str = "cells", sample: float = 1.0) -> str:
    """A new rollout, once its shadow is ready. Returns its id."""
    rollout, context = shadow_of(api, name, sample=sample), parts.app.state.context
    stable = context.seen_by(LOOPBACK).catalog.resolve(Reference(name, alias="prod"))
    context.shadowing.of(context.seen_by(LOOPBACK).catalog, [replace(stable, shadowed=True)])
    until(lambda: context.choice.ready.has(f"{rollout} shadow", OTHER))
    return rollout


def test_the_bytes_of_every_answer_are_the_same_with_and_without_a_shadow(
    api: TestClient, parts: Parts, make_png: MakePng, until: Until, told: Told
) -> None:
    images = [make_png(seed) for seed in range(4)]
    for image in images * 10:  # until the adapter is hot and has one program
        ask(api, image)
    cast(Any, parts.engine.runner).settle()
    plain = [without_times(ask(api, image)) for image in images]

    rollout = warm(api, parts, until)
    for _ in range(3):
        assert [without_times(ask(api, image)) for image in images] == plain
        cast(Any, parts.engine.runner).settle()
    assert len(told.compared(rollout, 12)) == 12
    assert api.get("/integrity").json()["ok"] is True


def test_the_evidence_has_the_answers_that_the_shadow_gives_when_it_is_asked_directly(
    api: TestClient, parts: Parts, make_png: MakePng, until: Until, told: Told
) -> None:
    rollout, image = warm(api, parts, until), make_png(8)
    scores = [
        {each["label"]: each["score"] for each in ask(api, image, reference).json()["predictions"]}
        for reference in ("cells:prod", f"cells@{OTHER}")
    ]
    ((stable, shadow),) = told.compared(rollout, 1)
    for found, expected in zip((stable, shadow), scores, strict=True):
        assert dict(zip(found.labels, found.scores, strict=True)) == pytest.approx(expected, abs=CLOSE)
    assert max(abs(scores[0][label] - scores[1][label]) for label in scores[0]) > 10 * CLOSE


def test_two_rollouts_at_once_and_an_adapter_without_one_in_one_request(
    api: TestClient, parts: Parts, make_png: MakePng, until: Until, told: Told, same_scores: CompareAnswers
) -> None:
    """The last bits of several adapters depend on the batch, with and without a shadow; tests of the engine fix it."""
    references = "cells:prod,tiles:prod,cells@2"
    plain = ask(api, make_png(1), references).json()["results"]
    rollouts = [warm(api, parts, until, name) for name in NAMES]
    shadowed = ask(api, make_png(1), references).json()["results"]
    assert [each["adapter"] for each in shadowed] == [each["adapter"] for each in plain]
    assert all(same_scores(*each) for each in zip(shadowed, plain, strict=True))
    for rollout in rollouts:
        told.compared(rollout, 1)


def test_the_sample_is_a_hash_of_the_request(
    api: TestClient, parts: Parts, make_png: MakePng, until: Until, told: Told
) -> None:
    rollout_id, image = warm(api, parts, until, sample=0.3), make_png(2)
    rollout = parts.catalog.resolve(Reference("cells", alias="prod")).version.rollout
    assert rollout is not None
    ids = [ask(api, image).json()["request_id"] for _ in range(20)]
    told.compared(rollout_id, sum(rollout.samples(each) for each in ids))


def test_a_shadow_that_is_not_in_memory_is_prepared_in_the_background(parts: Parts, until: Until, told: Told) -> None:
    """As on a server that did not start the rollout."""
    context = parts.app.state.context
    shadowing = replace(context.shadowing, ready=Ready(parts.engine.runner))
    adapters = context.seen_by(LOOPBACK).catalog
    rollout = Rollout("5" * 32, STABLE, None, Shadow(OTHER), salt="s")
    found = adapters.resolve(Reference("cells", STABLE))
    stable = replace(found, version=replace(found.version, rollout=rollout), shadowed=True)

    assert shadowing.of(adapters, [stable]) == [None]
    assert [why for _, _, why in told.of(rollout.id)] == ["not_ready"]
    until(lambda: shadowing.ready.has(f"{rollout.id} shadow", OTHER))
    (shadow,) = shadowing.of(adapters, [stable])
    assert shadow is not None
    assert shadow.adapter.digest == adapters.resolve(Reference("cells", OTHER)).version.digest
    shadowing.ready.close()


def test_the_evidence_says_why_there_is_nothing_to_compare(
    parts: Parts, fresh_backbone: Backbone, until: Until, told: Told
) -> None:
    adapters: Callable[[int], Snapshot] = lambda version: parts.catalog.resolve(Reference("cells", version))  # noqa: E731
    stable, other, smaller = (adapters(version) for version in (STABLE, OTHER, SMALLER))
    assert why_not(parts.engine.runner, stable, other) is None
    assert why_not(parts.engine.runner, stable, smaller) == "preprocessing_mismatch"
    assert why_not(MergedRunner(fresh_backbone, ExactSwapper(fresh_backbone)), stable, other) == "merged_in_place"
    rollout = Rollout("6" * 32, STABLE, None, Shadow(SMALLER), salt="s")
    asked = replace(stable, version=replace(stable.version, rollout=rollout), shadowed=True)
    shadowing = parts.app.state.context.shadowing
    assert shadowing.of(parts.catalog, [asked]) == [None]
    until(lambda: shadowing.ready.has(f"{rollout.id} shadow", SMALLER))
    assert shadowing.of(parts.catalog, [asked]) == [None]
    assert [why for _, _, why in told.of(rollout.id)] == ["not_ready", "preprocessing_mismatch"]
