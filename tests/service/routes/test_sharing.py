"""What is shared over HTTP. tests/service/tenants shows what other tenants then see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, Zip


@pytest.fixture(scope="module")
def api(shared_client: TestClient, images: DrawImages, zipped: Zip) -> TestClient:
    data = zipped(images(a=6, b=6))
    for name in ("slides", "scans"):
        assert shared_client.put(f"/datasets/{name}", content=data).status_code == 201
    return shared_client


@pytest.mark.parametrize(("kind", "name", "other"), [("adapters", "cells", "tiles"), ("datasets", "slides", "scans")])
def test_a_name_is_shared_as_itself_or_as_another_until_it_is_given_up(
    api: TestClient, kind: str, name: str, other: str
) -> None:
    path = f"/{kind}/{name}/shared"
    assert api.put(path).json() == {"name": name, "public_name": f"public/{name}"}
    assert api.put(path).status_code == 200
    assert api.put(path, params={"as": "public/second"}).json()["public_name"] == "public/second"
    assert {each["name"] for each in api.get(f"/{kind}?public=true").json()[kind]} == {
        f"public/{name}",
        "public/second",
    }
    taken = api.put(f"/{kind}/{other}/shared", params={"as": name})
    assert (taken.status_code, taken.json()["code"]) == (409, "public_name_taken")

    assert api.delete(path).status_code == 204

    again = api.delete(path)
    assert (again.status_code, again.json()["code"]) == (404, f"{kind[:-1]}_not_found")
    assert api.get(f"/{kind}?public=true").json() == {kind: []}
    assert api.put(f"/{kind}/{other}/shared", params={"as": name}).status_code == 200
    assert api.delete(f"/{kind}/{other}/shared").status_code == 204


@pytest.mark.parametrize("kind", ["adapters", "datasets"])
def test_what_does_not_exist_cannot_be_shared(api: TestClient, kind: str) -> None:
    for method in ("PUT", "DELETE"):
        refused = api.request(method, f"/{kind}/none-such/shared")
        assert (refused.status_code, refused.json()["code"]) == (404, f"{kind[:-1]}_not_found")
    bad = api.put(f"/{kind}/cells/shared", params={"as": "Not A Name"})
    assert bad.status_code in (404, 422)
