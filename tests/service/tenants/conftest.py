"""One server with the tenants default, lab1 and lab2, each with an administrator's token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service import app
from lensmount_service.access.tokens import TokenStore
from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeParts, Zip

Ask = Callable[..., Any]  # ask("lab1", "GET", "/adapters") is the response


class Server:
    """`server.ask("lab1", "GET", "/adapters")`, `server.ask("lab1:predict", ...)` with one scope only."""

    def __init__(self, parts: Parts, client: TestClient) -> None:
        self.parts = parts
        self._client = client
        self._tokens = TokenStore(parts.training.jobs.database)
        self._secrets: dict[str, str] = {}
        self.ask("default", "GET", "/adapters")  # from now on, callers need a token

    def ask(self, who: str, method: str, path: str, **options: Any) -> Any:
        if who not in self._secrets:
            tenant, _, scopes = who.partition(":")
            self._secrets[who] = self._tokens.create(f"{tenant}-{scopes or 'boss'}", [scopes or "admin"], tenant)[1]
        headers = {"Authorization": f"Bearer {self._secrets[who]}", **options.pop("headers", {})}
        return self._client.request(method, path, headers=headers, **options)

    def done(self, who: str, method: str, path: str, **options: Any) -> Any:
        """Like `ask`, for what must succeed: the JSON document."""
        answer = self.ask(who, method, path, **options)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


@pytest.fixture(scope="module")
def server(make_shared_parts: MakeParts) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "REAP_S", 3600.0)  # no timer reads the database while tests compare what was read
        with (
            make_shared_parts(feedback="on", lease_s=3600.0) as parts,
            TestClient(parts.app, base_url="http://127.0.0.1") as client,
        ):
            yield Server(parts, client)


@pytest.fixture(scope="session")
def archive(images: DrawImages, zipped: Zip) -> bytes:
    """The bytes of a zip file of class folders."""
    return zipped(images(seed=3, a=6, b=6))
