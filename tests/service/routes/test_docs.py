"""GET /docs: every file comes from this server; test_page.py opens the page in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from lensmount_service.routes.docs import FILES

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts


@pytest.fixture(scope="module")
def protected(make_shared_parts: MakeParts) -> Iterator[TestClient]:
    """An app whose clients need a token, asked without one."""
    token = SecretStr("a-token-of-the-lab")
    with make_shared_parts(token=token) as parts, TestClient(parts.app, base_url="http://lab.example") as client:
        yield client


@pytest.mark.parametrize("path", FILES)
def test_the_files_of_docs_are_served_locally_with_a_strict_policy_and_without_a_token(
    protected: TestClient, path: str
) -> None:
    response = protected.get(path)
    assert (response.status_code, response.headers["Content-Type"]) == (200, FILES[path][2])
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert protected.get(path, headers={"If-None-Match": response.headers["ETag"]}).status_code == 304


def test_there_is_no_second_docs_page_that_loads_from_elsewhere(shared_client: TestClient) -> None:
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert shared_client.get(path).status_code == 404, path
