"""One server with the tenants default, lab1 and lab2, each with an administrator's token."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service import app
from lensmount_service.access.identity import Quotas
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


_numbers = itertools.count()


class Limited:
    """A token of a tenant of its own, with quotas."""

    def __init__(self, server: Server, tenant: str | None = None, **quotas: float) -> None:
        number = next(_numbers)
        self.server, self.name, self.tenant = server, f"reader{number}", tenant or f"lab-{number}"
        tokens = TokenStore(server.parts.training.jobs.database)
        scopes = ("predict", "upload", "train")
        limits = Quotas(**quotas)  # type: ignore[arg-type]  # of a table
        token, secret = tokens.create(self.name, scopes, self.tenant, quotas=limits)
        self.key = token.id
        self.headers = {"Authorization": f"Bearer {secret}"}

    def ask(self, method: str, path: str, **options: Any) -> Any:
        headers = {**self.headers, **options.pop("headers", {})}
        return self.server.ask("default", method, path, headers=headers, **options)

    def used(self, quota: str = "stored_bytes") -> float:
        found: float = self.ask("GET", "/whoami").json()["used"][quota]
        return found

    def follow(self, advice: str) -> None:
        """Do what the Fix of a refusal says."""
        command = re.search(r"Fix: `lensmount (\w+) delete (\S+) --version (\d+) --purge`", advice)
        pool = re.search(r"Fix: DELETE /datasets/\{name\}/unlabelled with the pool (\S+) frees", advice)
        files = re.search(r"Fix: `lensmount jobs delete-files (\w+)` frees", advice)
        if files is not None:
            path = f"/jobs/{files[1]}/files"
        elif pool is not None:
            path = f"/datasets/{pool[1]}/unlabelled"
        else:
            assert command is not None, advice
            kind, name, version = command.groups()
            path = (
                f"/adapters/{name}/versions/{version}?"
                if kind == "adapters"
                else f"/datasets/{name}?version={version}&"
            )
            path += "purge=true"
        assert self.ask("DELETE", path).status_code == 204


MakeLimited = Callable[..., Limited]  # limited(stored_bytes=100); limited("lab1", ...) is of that tenant


@pytest.fixture(scope="module")
def server(make_shared_parts: MakeParts) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "REAP_S", 3600.0)  # no timer reads the database while tests compare what was read
        with (
            make_shared_parts(feedback="on", lease_s=3600.0) as parts,
            TestClient(parts.app, base_url="http://127.0.0.1") as client,
        ):
            yield Server(parts, client)


@pytest.fixture(scope="module")
def limited(server: Server) -> MakeLimited:
    """`limited(stored_bytes=100)` makes a token with quotas, of a tenant of its own."""
    return partial(Limited, server)


@pytest.fixture(scope="session")
def archive(images: DrawImages, zipped: Zip) -> bytes:
    """The bytes of a zip file of class folders."""
    return zipped(images(seed=3, a=6, b=6))
