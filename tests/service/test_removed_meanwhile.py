"""A file that somebody removes between the look-up of its name and the reading is gone, and no fault of the server.

Retention, a purge and another server do that. A file that is open already is sent whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, MakePng, Zip


@contextmanager
def removal(folder: Path, remove: Callable[[], object], *, at: int = 1, first: bool = True) -> Iterator[None]:
    """Call `remove` before (`first`) or after the opening number `at` of a file in the folder."""
    opened, left = Path.open, [at]

    def late(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        is_it = mode == "rb" and folder in path.parents
        left[0] -= is_it
        now = is_it and left[0] == 0
        if now and first:
            remove()
        file = opened(path, mode, *more, **named)
        if now and not first:
            remove()
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", late)
        yield
    assert left[0] <= 0, "nobody opened the file"


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts(cache_bytes=0) as parts:
        yield parts


@pytest.fixture
def api(
    parts: Parts, make_adapter: MakeAdapter, make_png: MakePng, images: DrawImages, zipped: Zip
) -> Iterator[TestClient]:
    """The adapter `cells`, whose factors are not in memory, the dataset `cells`, and the pool `fresh`."""
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for name, seed in (("cells", 1), ("tiles", 2)):
            client.put(f"/adapters/{name}", content=make_adapter(seed)).raise_for_status()
        client.put("/datasets/cells", content=zipped(images(a=6, b=6))).raise_for_status()
        client.post("/datasets/fresh/unlabelled?who=reader1", content=make_png(7)).raise_for_status()
        yield client


def state_of(api: TestClient) -> Path:
    folder: Path = api.app.state.context.settings.state  # type: ignore[attr-defined]
    return folder


@pytest.mark.parametrize(
    ("method", "path", "at"),
    [
        ("GET", "/datasets/cells/file", 1),
        ("GET", "/datasets/cells/items/image?path=a/0.png", 1),
        ("GET", "/datasets/cells/items/image?path=a/0.png", 3),  # after its directory and its manifest were read
        ("POST", "/jobs", 1),
    ],
)
def test_a_dataset_that_is_purged_meanwhile_is_gone(api: TestClient, method: str, path: str, at: int) -> None:
    body: dict[str, Any] = {"json": {"dataset": "cells", "adapter": "cells"}} if path == "/jobs" else {}
    purge = lambda: api.delete("/datasets/cells?purge=true").raise_for_status()  # noqa: E731
    with removal(state_of(api) / "datasets", purge, at=at):
        answer = api.request(method, path, **body)
    assert (answer.status_code, answer.json()["code"]) == (410, "dataset_gone"), answer.text


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/adapters/cells/file", (404, "adapter_not_found")),
        ("POST", "/predict?adapter=cells", (404, "adapter_not_found")),
        ("POST", "/predict?adapter=cells@1", (404, "adapter_not_found")),
    ],
)
def test_an_adapter_that_is_purged_meanwhile_is_gone(
    api: TestClient, make_png: MakePng, method: str, path: str, code: tuple[int, str]
) -> None:
    body: dict[str, Any] = {"content": make_png(1)} if method == "POST" else {}
    purge = lambda: api.delete("/adapters/cells?purge=true").raise_for_status()  # noqa: E731
    with removal(state_of(api) / "blobs", purge):
        answer = api.request(method, path, **body)
    assert (answer.status_code, answer.json()["code"]) == code, answer.text


def test_an_image_whose_pool_is_deleted_meanwhile_is_not_found(api: TestClient, make_png: MakePng) -> None:
    again = api.post("/datasets/fresh/unlabelled?who=reader1", content=make_png(7)).json()
    path = f"/datasets/fresh/unlabelled/{again['images'][0]['digest']}"
    delete = lambda: api.delete("/datasets/fresh/unlabelled").raise_for_status()  # noqa: E731
    with removal(state_of(api) / "pools", delete):
        answer = api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


def test_a_file_of_a_job_is_not_found_if_it_is_removed_before_and_whole_if_after(api: TestClient, parts: Parts) -> None:
    job = api.post("/jobs", json={"dataset": "cells", "adapter": "task"}).json()["id"]
    lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    files, held = f"/jobs/{job}/files", {"Lensmount-Lease": lease.token}
    folder = state_of(api) / "jobs"
    for path, first, expected in (
        (f"{files}/card.md", True, 404),
        (f"{files}/card.md", False, 200),
        (files, True, 200),
    ):
        api.put(f"{files}/card.md", content=b"# Card" * 100_000, headers=held).raise_for_status()
        with removal(folder, lambda: shutil.rmtree(folder / job), first=first):
            answer = api.get(path)
        assert answer.status_code == expected, answer.text
        if path != files and expected == 200:
            assert answer.content == b"# Card" * 100_000
        elif expected == 404:
            assert answer.json()["code"] == "file_not_found"
        else:
            assert answer.json() == {"files": []}
