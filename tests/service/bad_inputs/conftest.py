"""What every refusal of a bad input has to be, whatever its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from httpx2 import Response

MOST_BYTES = 4096


@pytest.fixture(scope="session")
def refused() -> Any:
    """`refused(client, answer, status, code)`: a small problem document that repeats nothing, and a live server."""

    def check(client: TestClient, answer: Response, status: int, code: str, *, secret: str = "") -> None:
        assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text[:500]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert len(answer.content) < MOST_BYTES
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
        assert not secret or secret not in answer.text + str(answer.headers)
        assert client.get("/health/live").status_code == 200

    return check
