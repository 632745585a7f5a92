"""A response is read completely, up to its limit."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.client.answers import answering, mocked

from lensmount_client import ResponseTooLarge


def test_an_endless_response_is_cut_off() -> None:
    def forever() -> Any:
        while True:
            yield b"x" * 1000

    handle, _ = answering(httpx.Response(200, content=forever()))
    with mocked(handle, max_response_bytes=10_000) as client, pytest.raises(ResponseTooLarge, match="10000"):
        client.limits()
