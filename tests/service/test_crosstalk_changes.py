"""Adapters are replaced, deleted, taken back and rolled back while 32 threads ask: no answer is of other bytes.

Each answer's digest must be one that its reference may have had between sending and receiving, and its scores must be
those that plain torch computes for this digest and this image. A refusal must be one that was true at some time then.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch
from tests.service.by_hand import listening, scores_by_hand, smallest_difference
from tests.service.crosstalk_history import ALIAS, Door, History, Reply

from lensmount_adapters import Backbone, decode_image, preprocess
from lensmount_adapters.adapter.file import digest_of
from lensmount_service.build import Parts
from lensmount_service.errors import ServiceError
from lensmount_service.store.references import Reference
from lensmount_service.web.problems import status_of

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

LABELS, NAMES = ("a", "b", "c"), ("one", "two", "three", "four")
ROOM_FOR_ONE = {"eager": 2_000_000, "openvino": 12_000_000, "merged": 0}  # hot bytes; merging keeps none hot
THREADS, FILES, IMAGES = 32, 8, 8
REQUESTS_PER_CHANGE = 25


class InProcess:
    """The catalog and the engine, without HTTP."""

    def __init__(self, parts: Parts, images: list[bytes]) -> None:
        self._catalog, self._engine = parts.catalog, parts.engine
        rule: Any = parts.engine.backbone.preprocessing
        self._inputs = [preprocess(decode_image(image), rule) for image in images]

    def ask(self, reference: str, image: int) -> Reply:
        asked = Reference.parse(reference)
        try:
            snapshot = self._catalog.resolve_cached(asked) or self._catalog.resolve(asked)
        except ServiceError as error:
            return Reply(status_of(error), {})
        answer = self._engine.submit(snapshot.adapter, self._inputs[image]).result(60)
        return Reply(snapshot.version.digest, dict(zip(LABELS, answer.scores.tolist(), strict=True)))

    def upload(self, name: str, data: bytes) -> int | None:
        return _refused(lambda: self._catalog.upload(name, data))

    def delete(self, name: str) -> int | None:
        return _refused(lambda: self._catalog.delete(name))

    def undelete(self, name: str) -> int | None:
        return _refused(lambda: self._catalog.undelete(name))

    def point(self, name: str, number: int) -> int | None:
        return _refused(lambda: self._catalog.aliases.set_alias(name, ALIAS, number))


def _refused(change: Callable[[], object]) -> int | None:
    try:
        change()
    except ServiceError as error:
        return status_of(error)
    return None


class OverHttp:
    """A server that listens on a port."""

    def __init__(self, client: httpx.Client, images: list[bytes]) -> None:
        self._client, self._images = client, images

    def ask(self, reference: str, image: int) -> Reply:
        answer = self._client.post(f"/predict?adapter={reference}", content=self._images[image])
        if answer.status_code != 200:
            return Reply(answer.status_code, {})
        found = answer.json()
        return Reply(found["adapter"]["digest"], {each["label"]: each["score"] for each in found["predictions"]})

    def upload(self, name: str, data: bytes) -> int | None:
        return self._change("PUT", f"/adapters/{name}", content=data)

    def delete(self, name: str) -> int | None:
        return self._change("DELETE", f"/adapters/{name}")

    def undelete(self, name: str) -> int | None:
        return self._change("POST", f"/adapters/{name}/undelete")

    def point(self, name: str, number: int) -> int | None:
        return self._change("PUT", f"/adapters/{name}/aliases/{ALIAS}", json={"version": number})

    def _change(self, method: str, path: str, **options: Any) -> int | None:
        answer = self._client.request(method, path, **options)
        return None if answer.is_success else answer.status_code


@pytest.fixture(params=ROOM_FOR_ONE)
def make_parts_of(request: pytest.FixtureRequest, make_parts: MakeParts) -> MakeParts:
    """A server of each kind in float32, whose hot weights have room for only one adapter."""
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return partial(make_parts, executor=request.param, hot_bytes=ROOM_FOR_ONE[request.param])


@pytest.fixture
def files(make_adapter: MakeAdapter) -> list[bytes]:
    return [make_adapter(seed, LABELS) for seed in range(1, FILES + 1)]


@pytest.fixture
def images(make_png: MakePng) -> list[bytes]:
    return [make_png(seed) for seed in range(IMAGES)]


class Check:
    """Asks and changes in many threads, then compares every answer with the history and with plain torch."""

    def __init__(self, own_backbone: Backbone, files: list[bytes], images: list[bytes]) -> None:
        self.images = images
        self._files = {digest_of(data): data for data in files}
        self._expected = {digest: scores_by_hand(own_backbone, data, images) for digest, data in self._files.items()}
        assert smallest_difference(list(self._expected.values())) > 1e-2  # far larger than the noise of batch shapes

    def run(self, door: Door, requests: int) -> dict[str, int]:
        history = History(door, self._files, NAMES, seed=3)
        for name, digest in zip(NAMES, self._files, strict=False):
            history.upload(name, digest)
        answers: list[tuple[str, int, Reply, float, float]] = []
        numbers, changing = itertools.count(), threading.Lock()

        def work() -> None:
            while (number := next(numbers)) < requests:
                if number % REQUESTS_PER_CHANGE == 0:
                    with changing:
                        history.change()
                draw = random.Random(number)
                reference, image = draw.choice(history.references), draw.randrange(IMAGES)
                sent = time.perf_counter()
                reply = door.ask(reference, image)
                answers.append((reference, image, reply, sent, time.perf_counter()))

        with ThreadPoolExecutor(THREADS) as threads:
            for done in [threads.submit(work) for _ in range(THREADS)]:
                done.result()
        assert len(answers) == requests
        return {
            "answered": sum(bool(reply.scores) for _, _, reply, _, _ in answers),
            "refused": sum(not reply.scores for _, _, reply, _, _ in answers),
            "changes": history.changes,
            "of a wrong digest": sum(
                not history.allows(reference, reply.meaning, sent, received)
                for reference, _, reply, sent, received in answers
            ),
            "with wrong scores": sum(self._is_wrong(image, reply) for _, image, reply, _, _ in answers),
        }

    def _is_wrong(self, image: int, reply: Reply) -> bool:
        if not reply.scores:
            return False
        got = torch.tensor([reply.scores[label] for label in LABELS])
        return float((got - self._expected[str(reply.meaning)][image]).abs().max()) > 1e-4


def require_right(found: dict[str, int], requests: int) -> None:
    assert (found["of a wrong digest"], found["with wrong scores"]) == (0, 0), found
    assert found["answered"] > requests / 2, found
    assert found["refused"] > 0, found
    assert found["changes"] >= requests / REQUESTS_PER_CHANGE


def in_process(make_parts: MakeParts, check: Check, requests: int) -> None:
    with make_parts() as parts, parts.engine:
        require_right(check.run(InProcess(parts, check.images), requests), requests)
        assert parts.engine.integrity().result(60).ok


def over_http(make_parts: MakeParts, check: Check, requests: int) -> None:
    limits = httpx.Limits(max_connections=THREADS + 1)
    with (
        make_parts() as parts,
        listening(parts.app) as url,
        httpx.Client(base_url=url, timeout=60, limits=limits) as client,
    ):
        require_right(check.run(OverHttp(client, check.images), requests), requests)
        assert client.get("/integrity").json()["ok"]


@pytest.fixture
def check(fresh_backbone: Backbone, files: list[bytes], images: list[bytes]) -> Check:
    return Check(fresh_backbone, files, images)


def test_every_answer_is_of_a_version_that_its_name_had_meanwhile(make_parts_of: MakeParts, check: Check) -> None:
    in_process(make_parts_of, check, 500)


def test_over_http_every_answer_is_of_a_version_that_its_name_had_meanwhile(
    make_parts: MakeParts, check: Check
) -> None:
    over_http(make_parts, check, 300)


@pytest.mark.soak
def test_200_000_answers_are_of_versions_that_their_names_had_meanwhile(make_parts_of: MakeParts, check: Check) -> None:
    in_process(make_parts_of, check, 200_000 // 3 + 1)


@pytest.mark.soak
def test_20_000_answers_over_http_are_of_versions_that_their_names_had_meanwhile(
    make_parts: MakeParts, check: Check
) -> None:
    over_http(make_parts, check, 20_000)
