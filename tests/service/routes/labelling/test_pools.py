"""GET /pools lists what waits for labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from tests.service.conftest import MakePng


def test_a_pool_is_listed_from_its_first_image_until_it_is_deleted(api: TestClient, make_png: MakePng) -> None:
    assert api.get("/pools").json() == {"pools": []}
    files = [("file", make_png(number)) for number in range(3)]
    api.post("/datasets/slides/unlabelled?who=reader", files=files).raise_for_status()

    (pool,) = api.get("/pools").json()["pools"]

    assert (pool["name"], pool["images"], pool["labelled"], pool["held"]) == ("slides", 3, 0, {})
    assert pool["size_bytes"] == sum(len(data) for _, data in files)
    api.delete("/datasets/slides/unlabelled").raise_for_status()
    assert api.get("/pools").json() == {"pools": []}
