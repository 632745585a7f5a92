"""GET /integrity during uploads and deletions: the proof that nothing changed never answers with an error."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, load_backbone

if TYPE_CHECKING:
    from tests.conftest import DrawAdapter
    from tests.service.conftest import MakeParts

LAYERS = ("layer4.*", "layer3.*", "layer2.*", "layer1.*", "conv1.6", "conv1.3", "conv1.0")  # each has its own cut
UPLOADERS = 2


@pytest.fixture
def small_backbone() -> Backbone:
    backbone = load_backbone("test_resnet", "random:0")
    backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (64, 64)})
    return backbone


@pytest.mark.parametrize("executor", ["eager", "merged"])
def test_integrity_answers_during_uploads_and_deletions(
    make_parts: MakeParts, draw_adapter: DrawAdapter, small_backbone: Backbone, executor: str
) -> None:
    run(make_parts, draw_adapter, small_backbone, executor, checks=30)


@pytest.mark.soak
@pytest.mark.parametrize("executor", ["eager", "merged"])
def test_integrity_answers_a_thousand_times_during_uploads_and_deletions(
    make_parts: MakeParts, draw_adapter: DrawAdapter, small_backbone: Backbone, executor: str
) -> None:
    run(make_parts, draw_adapter, small_backbone, executor, checks=1_000)


def run(make_parts: MakeParts, draw_adapter: DrawAdapter, backbone: Backbone, executor: str, checks: int) -> None:
    files = [draw_adapter(backbone, modules=modules, seed=seed).dump() for seed, modules in enumerate(LAYERS)]
    with (
        make_parts(backbone, executor=executor) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
        uploads_and_deletions(client, files) as others,
    ):
        answers = [client.get("/integrity") for _ in range(checks)]

    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert [answer.text for answer in answers if not answer.json()["ok"]] == []
    assert others["refused"] == []
    assert others["uploads"] >= len(files)
    assert others["deletions"] >= 1


@contextmanager
def uploads_and_deletions(client: TestClient, files: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """Upload every file repeatedly and delete every second one, from several threads."""
    done, started = threading.Event(), threading.Barrier(UPLOADERS + 1)
    counts: dict[str, Any] = {"uploads": 0, "deletions": 0, "refused": []}
    counting = threading.Lock()

    def work(number: int) -> None:
        started.wait(60)
        for turn in itertools.count():
            if done.is_set() and turn >= len(files):
                return
            name = f"task{turn % len(files)}-{number}"
            upload = client.put(f"/adapters/{name}", content=files[(turn + number) % len(files)])
            gone = client.delete(f"/adapters/{name}") if turn % 2 else None
            with counting:
                counts["uploads"] += upload.is_success
                counts["deletions"] += gone is not None and gone.is_success
                counts["refused"] += [
                    answer.text for answer in (upload, gone) if answer is not None and answer.is_error
                ]

    with ThreadPoolExecutor(UPLOADERS) as pool:
        futures = [pool.submit(work, number) for number in range(UPLOADERS)]
        started.wait(60)
        try:
            yield counts
        finally:
            done.set()
        for future in futures:
            future.result(300)
