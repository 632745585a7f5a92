"""Features are computed once, a few at a time, and a request that ends leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from tests.service.routes.drafts.conftest import EACH

from lensmount_adapters.draft.choice import Known
from lensmount_adapters.inputs.prepare import prepare
from lensmount_service.access.identity import Identity
from lensmount_service.routes.context import AppContext
from lensmount_service.routes.drafts.features import DatasetFeatures

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, Zip


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The images that are decoded from now on."""
    seen: list[bytes] = []

    def counted(data: bytes, *rest: Any) -> Any:
        seen.append(data)
        return prepare(data, *rest)

    monkeypatch.setattr("lensmount_service.routes.drafts.features.prepare", counted)
    return seen


def test_the_same_images_again_make_no_version_and_are_not_computed(
    api: TestClient, drafted: Any, prepared: list[bytes]
) -> None:
    again = api.post("/datasets/cells/draft", params={"adapter": "first"})

    assert again.status_code == 200
    assert (again.json()["digest"], prepared) == (drafted.json()["digest"], [])


def test_of_a_dataset_that_grew_only_the_new_images_are_computed(
    api: TestClient, cells: dict[str, bytes], drafted: Any, prepared: list[bytes], images: DrawImages, zipped: Zip
) -> None:
    new = {f"a/more-{path[2:]}": data for path, data in images(seed=44, a=2).items()}
    api.put("/datasets/more", content=zipped(cells | new))

    answer = api.post("/datasets/more/draft", params={"adapter": "first"})

    assert (answer.status_code, answer.json()["version"]) == (201, 2)
    assert answer.json()["draft"]["classes"] == {"a": EACH + 2, "b": EACH, "c": EACH}
    assert sorted(prepared) == sorted(new.values())


def test_a_draft_that_is_cancelled_stops_and_leaves_its_place(api: TestClient, cells: dict[str, bytes]) -> None:
    app: AppContext = api.app.state.context  # type: ignore[attr-defined]  # it is a FastAPI
    made = DatasetFeatures(app)
    known = [Known(path, 0, path, f"new {path}") for path in cells]
    read: list[str] = []

    async def cancel() -> bool:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read_one(path: str) -> bytes:
            read.append(path)
            loop.call_soon_threadsafe(begun.set)
            return cells[path]

        context = app.seen_by(Identity("default", "reader1", frozenset({"train"})))
        task = asyncio.create_task(made.of(context, known, read_one))
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert api.portal is not None
    assert api.portal.call(cancel)
    assert len(read) < len(cells)
    assert made.busy == 0


def test_more_drafts_at_a_time_than_the_server_computes_are_refused(
    api: TestClient, cells: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.routes.drafts.features.MOST_DRAFTS", 0)

    answer = api.post("/datasets/cells/draft", params={"adapter": "busy"})

    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
