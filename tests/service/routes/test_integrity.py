"""GET /integrity beside uploads and deletions: the proof that nothing changed never answers that it failed."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient

LAYERS = ("layer4.*", "layer3.*", "layer2.*", "layer1.*", "conv1.6", "conv1.3", "conv1.0")  # each begins at a new cut
UPLOADERS = 2


@pytest.mark.parametrize("executor", ["eager", "merged"])
def test_integrity_answers_beside_uploads_and_deletions(make_parts, draw_adapter, fresh_backbone, executor):
    run(make_parts, draw_adapter, fresh_backbone, executor, checks=30)


@pytest.mark.soak
@pytest.mark.parametrize("executor", ["eager", "merged"])
def test_integrity_answers_a_thousand_times_beside_uploads_and_deletions(
    make_parts, draw_adapter, fresh_backbone, executor
):
    run(make_parts, draw_adapter, fresh_backbone, executor, checks=1_000)


def run(make_parts, draw_adapter, backbone, executor, checks):
    files = [draw_adapter(backbone, modules=modules, seed=seed).dump() for seed, modules in enumerate(LAYERS)]
    with (
        make_parts(backbone, executor=executor) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
        coming_and_going(client, files) as others,
    ):
        answers = [client.get("/integrity") for _ in range(checks)]

    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert [answer.text for answer in answers if not answer.json()["ok"]] == []
    assert others["refused"] == []
    assert others["uploads"] >= len(files)
    assert others["deletions"] >= 1


@contextmanager
def coming_and_going(client, files):
    """Upload every file again and again, and delete every other one, from several threads."""
    done, started = threading.Event(), threading.Barrier(UPLOADERS + 1)
    found = {"uploads": 0, "deletions": 0, "refused": []}
    counting = threading.Lock()

    def work(number):
        started.wait(60)
        for turn in itertools.count():
            if done.is_set() and turn >= len(files):
                return
            name = f"task{turn % len(files)}-{number}"
            upload = client.put(f"/adapters/{name}", content=files[(turn + number) % len(files)])
            gone = client.delete(f"/adapters/{name}") if turn % 2 else None
            with counting:
                found["uploads"] += upload.is_success
                found["deletions"] += gone is not None and gone.is_success
                found["refused"] += [one.text for one in (upload, gone) if one is not None and one.is_error]

    with ThreadPoolExecutor(UPLOADERS) as pool:
        futures = [pool.submit(work, number) for number in range(UPLOADERS)]
        started.wait(60)
        try:
            yield found
        finally:
            done.set()
        for future in futures:
            future.result(300)
