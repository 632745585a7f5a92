"""64 concurrent clients, three adapters with the same labels: no result may contain a trace of another adapter."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch
from tests.service.by_hand import listening, scores_by_hand, smallest_difference

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

    from lensmount_adapters import Backbone

CLIENTS = 64
TASKS = ("one", "two", "three")
LABELS = ("a", "b", "c")
ROOM_FOR_ONE = {"eager": 2_000_000, "openvino": 12_000_000, "merged": 0}  # hot bytes; merging keeps none hot


@pytest.fixture(params=ROOM_FOR_ONE)
def make_parts_of(request: pytest.FixtureRequest, make_parts: MakeParts) -> MakeParts:
    """A server of each kind in float32, whose hot weights have room for only one adapter."""
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return partial(make_parts, executor=request.param, hot_bytes=ROOM_FOR_ONE[request.param])


def test_64_clients_get_the_scores_of_their_own_adapter(
    make_parts_of: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, fresh_backbone: Backbone
) -> None:
    run(make_parts_of, make_adapter, make_png, fresh_backbone, requests=340)


@pytest.mark.soak
def test_64_clients_get_the_scores_of_their_own_adapter_for_long(
    make_parts_of: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, fresh_backbone: Backbone
) -> None:
    run(make_parts_of, make_adapter, make_png, fresh_backbone, requests=20_000)


def run(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, own_backbone: Backbone, requests: int
) -> None:
    files = {task: make_adapter(seed, LABELS) for seed, task in enumerate(TASKS, start=1)}
    images = [make_png(seed) for seed in range(8)]
    expected = {task: scores_by_hand(own_backbone, data, images) for task, data in files.items()}
    assert smallest_difference(list(expected.values())) > 1e-2  # far larger than the noise of batch shapes
    with make_parts() as parts, listening(parts.app) as url:
        with httpx.Client(base_url=url, timeout=60) as client:
            digests = {task: client.put(f"/adapters/{task}", content=files[task]).json()["digest"] for task in TASKS}
        answers = asyncio.run(ask(url, images, requests))
        with httpx.Client(base_url=url, timeout=60) as client:
            assert client.get("/integrity").json()["ok"]
    assert len(answers) == requests
    wrong_digests = sum(answer["adapter"]["digest"] != digests[task] for task, _, answer in answers)
    worst = 0.0
    for task, number, answer in answers:
        scores = {p["label"]: p["score"] for p in answer["predictions"]}
        got = torch.tensor([scores[label] for label in LABELS])
        worst = max(worst, float((got - expected[task][number]).abs().max()))
    assert wrong_digests == 0
    assert worst < 1e-4


async def ask(url: str, images: list[bytes], requests: int) -> list[tuple[str, int, Any]]:
    answers = []
    counter = iter(range(requests))
    limits = httpx.Limits(max_connections=CLIENTS)

    async def client(session: httpx.AsyncClient) -> None:
        for number in counter:
            task = TASKS[(number * 7 + number // 5) % 3]
            image = number % len(images)
            answer = await session.post(f"/predict?adapter={task}", content=images[image])
            assert answer.status_code == 200, answer.text
            answers.append((task, image, answer.json()))

    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
    return answers
