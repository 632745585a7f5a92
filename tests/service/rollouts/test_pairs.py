"""Labels become evidence in the background: both versions compute the image, and nobody waits for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import parse_adapter
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.prepare import InputLimits
from lensmount_adapters.inputs.volumes import VolumeLimits
from lensmount_service.build import Parts
from lensmount_service.rollout_spec import Canary, Rollout
from lensmount_service.rollouts import pairs as module
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.pairs import LabelledImage, Pairs, can_compare, grade
from lensmount_service.rollouts.rows import Graded, Rows

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Until

ROLLOUT = Rollout("1" * 32, 1, Canary(2, 25))
OTHER_LABELS = Rollout("2" * 32, 1, Canary(3, 25))


class Graders:
    """A server with `cells@1` and `cells@2` (a, b) and `cells@3` (a, c), and what turns its labels into pairs."""

    def __init__(self, parts: Parts, client: TestClient) -> None:
        self.client = client
        self.rows = Rows(parts.training.jobs.database)
        self.evidence = Evidence()
        limits = InputLimits(ImageLimits(), VolumeLimits())
        self.pairs = Pairs(parts.engine, parts.catalog, self.rows, self.evidence, limits)

    def scores(self, version: int, data: bytes) -> dict[str, float]:
        answer = self.client.post(f"/predict?adapter=cells@{version}", content=data).json()
        return {each["label"]: each["score"] for each in answer["predictions"]}


@pytest.fixture
def graders(make_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[Graders]:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for seed, labels in ((1, ("a", "b")), (2, ("b", "a")), (3, ("a", "c"))):
            client.put("/adapters/cells", content=make_adapter(seed, labels)).raise_for_status()
        yield Graders(parts, client)


def labelled(data: bytes, label: str = "a", rollout: Rollout = ROLLOUT, digest: str = "sha256:1") -> LabelledImage:
    return LabelledImage(rollout, "cells", "canary", digest, data, label)


def test_both_versions_are_graded_as_predict_answers(graders: Graders, make_png: MakePng) -> None:
    for number in range(3):
        graders.pairs.offer(labelled(make_png(number), digest=f"sha256:{number}"))
    while graders.pairs.compute_next():
        pass
    stored = graders.rows.pairs(ROLLOUT.id)
    assert len(stored) == 3
    for number, pair in enumerate(stored):
        assert (pair.side, pair.share, pair.classes) == ("canary", 0.25, 2)
        for version, graded in ((1, pair.stable), (2, pair.candidate)):
            scores = graders.scores(version, make_png(number))
            assert graded.right == (scores["a"] > scores["b"])
            assert graded.score == pytest.approx(scores["a"], abs=1e-4)
            assert graded.top == pytest.approx(max(scores.values()), abs=1e-4)
            assert graded.brier == pytest.approx((1 - scores["a"]) ** 2, abs=1e-4)


def test_what_cannot_be_compared_is_left_out(graders: Graders, make_png: MakePng) -> None:
    for image in (
        labelled(make_png(), rollout=OTHER_LABELS),
        labelled(make_png(), label="nothing"),
        labelled(b"no image"),
        LabelledImage(ROLLOUT, "gone", "stable", "sha256:1", make_png(), "a"),
    ):
        graders.pairs.offer(image)
        assert graders.pairs.compute_next()
    assert graders.rows.pairs(ROLLOUT.id) == graders.rows.pairs(OTHER_LABELS.id) == []
    assert graders.evidence.pending(ROLLOUT.id).labels_dropped == 2  # the last two, which failed


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(
    graders: Graders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    assert [graders.pairs.offer(labelled(b"x")) for _ in range(5)] == [True, True, True, False, False]
    assert graders.pairs.waiting == 3
    assert graders.evidence.pending(ROLLOUT.id).labels_dropped == 2
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    while graders.pairs.compute_next():
        pass
    assert [graders.pairs.offer(labelled(b"12345678")) for _ in range(2)] == [True, False]


def test_the_thread_computes_what_is_offered_and_ends(graders: Graders, make_png: MakePng, until: Until) -> None:
    with graders.pairs as pairs:
        assert pairs.offer(labelled(make_png()))
        until(lambda: graders.rows.pairs(ROLLOUT.id))
    assert not graders.pairs.is_running


def test_one_image_that_fails_for_any_reason_does_not_end_the_thread(
    graders: Graders, make_png: MakePng, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()
    add = graders.rows.add_pair

    def fail_once(rollout: str, pair: object) -> bool:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        return add(rollout, pair)  # type: ignore[arg-type]  # a pair

    monkeypatch.setattr(graders.rows, "add_pair", fail_once)
    with graders.pairs as pairs:
        pairs.offer(labelled(make_png(1), digest="sha256:1"))
        until(failed.is_set)
        pairs.offer(labelled(make_png(2), digest="sha256:2"))
        until(lambda: [pair.digest for pair in graders.rows.pairs(ROLLOUT.id)] == ["sha256:2"])


def test_a_grade_is_that_of_the_formulas() -> None:
    assert grade([0.2, 0.5, 0.3], 1) == Graded(True, 0.5, 0.5, pytest.approx((0.04 + 0.25 + 0.09) / 2))  # type: ignore[arg-type]  # compares as a float
    assert grade([0.2, 0.5, 0.3], 0) == Graded(False, 0.2, 0.5, pytest.approx((0.64 + 0.25 + 0.09) / 2))  # type: ignore[arg-type]  # as above
    assert grade([1.0000001, 0.0], 1).brier == 1


def test_versions_with_the_same_labels_in_another_order_can_be_compared(make_adapter: MakeAdapter) -> None:
    first, turned, other = (
        parse_adapter(make_adapter(1, labels)).manifest for labels in (("a", "b"), ("b", "a"), ("a", "c"))
    )
    assert can_compare([first, turned])
    assert not can_compare([first, other])
