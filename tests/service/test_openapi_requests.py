"""Requests drawn from the server's OpenAPI document: each answer is one that the document describes, and none is a 5xx.

schemathesis draws the requests, valid ones and ones that break the document; half of them name what exists. `make soak`
draws 500 for each operation and each token.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, Zip

    from lensmount_service.build import Parts

schemathesis = pytest.importorskip("schemathesis", reason='needs schemathesis: pip install "lensmount[dev]"')

WAYS = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
SCOPES = {"an administrator": {"admin"}, "a reader": {"predict"}}
BINARY = ("application/zip", "image/png", "image/jpeg", "image/webp", "image/tiff", "application/x-nifti")


def as_bytes(_: Any, value: Any) -> bytes:
    """Whatever was drawn, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


schemathesis.serializer(*BINARY, "application/x-npy")(as_bytes)


class Server:
    """A server with one of everything, and a token for each of SCOPES."""

    def __init__(self, parts: Parts, client: TestClient, adapter: bytes, archive: bytes, image: bytes) -> None:
        self._client, self._adapter, self._archive, self._image = client, adapter, archive, image
        self._tokens = client.app.state.tokens  # type: ignore[attr-defined]  # it is a FastAPI
        self._secrets = {who: self._tokens.create(f"t{n}", SCOPES[who])[1] for n, who in enumerate(SCOPES)}
        self.document = client.get("/openapi.json").json()

    @functools.cached_property
    def operations(self) -> list[tuple[Any, st.SearchStrategy[Any]]]:
        """Each operation of the document, with what draws its requests. To make these takes most of the time."""
        found = [each.ok() for each in schemathesis.openapi.from_dict(self.document).get_all_operations()]
        return [(each, st.one_of([each.as_strategy(generation_mode=way) for way in WAYS])) for each in found]

    def ask(self, who: str, method: str, url: str, **options: Any) -> Any:
        headers = {**(options.pop("headers", None) or {}), "Authorization": f"Bearer {self._secrets[who]}"}
        return self._client.request(method, url, headers=headers, **options)

    def fill(self) -> dict[str, dict[str, Any]]:
        """Put back what requests may have deleted. Returns the parameters of what exists, by the path's beginning."""

        def done(method: str, url: str, **options: Any) -> Any:
            answer = self.ask("an administrator", method, url, **options)
            assert answer.status_code < 300, answer.text
            return answer.json()

        version = done("PUT", "/adapters/cells", content=self._adapter)["version"]
        done("PUT", "/adapters/cells/aliases/prod", json={"version": version})
        done("PUT", "/datasets/slides", content=self._archive, headers={"Content-Type": "application/zip"})
        pool = done("POST", "/datasets/slides/unlabelled?who=me", content=self._image)
        job = done("POST", "/jobs", json={"dataset": "slides", "adapter": "new"})["id"]
        done("DELETE", f"/jobs/{job}")  # so that the stream of its events ends
        if not any(token["name"] == "guest" for token in done("GET", "/tokens")["tokens"]):
            done("POST", "/tokens", json={"name": "guest", "scopes": ["predict"]})
        return {
            "/adapters": {"name": "cells", "alias": "prod", "version": version},
            "/datasets": {"name": "slides", "digest": pool["images"][0]["digest"], "adapter": "cells"},
            "/jobs": {"job_id": job, "name": "card.md"},
            "/tokens": {"name": "guest"},
            "/integrations": {"adapter": "cells"},
            "/": {"adapter": "cells"},
        }


@pytest.fixture(scope="module")
def server(
    make_shared_parts: MakeParts, make_adapter: MakeAdapter, images: DrawImages, zipped: Zip
) -> Iterator[Server]:
    with make_shared_parts(feedback="on") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        pool = images(seed=9, c=1)["c/0.png"]
        yield Server(parts, client, make_adapter(1), zipped(images(seed=3, a=6, b=6)), pool)


def about(case: Any, known: dict[str, dict[str, Any]]) -> None:
    """Turn the request into one about what exists, as far as its parameters name anything."""
    mine = next(values for start, values in known.items() if case.path.startswith(start))
    for parameters in (case.path_parameters, case.query):
        parameters.update({name: value for name, value in mine.items() if name in parameters})


def asked(server: Server, who: str, case: Any) -> Any:
    arguments = case.as_transport_kwargs(base_url="http://127.0.0.1")
    data = arguments.pop("data", None)
    if data is not None:
        arguments["content" if isinstance(data, bytes | str) else "data"] = data
    arguments.pop("cookies", None)
    try:
        return server.ask(who, arguments.pop("method"), arguments.pop("url"), **arguments)
    except httpx2.InvalidURL:  # the client itself sends no address of more than 64 KiB
        return None


def fault_of(operation: dict[str, Any], answer: Any) -> str | None:
    """What is wrong with an answer by the document, or None."""
    described = operation["responses"].get(str(answer.status_code))
    too_late = answer.status_code == 504 and "timeout" in answer.request.url.params  # the request said how soon
    if described is None or (answer.status_code >= 500 and not too_late):
        return f"status {answer.status_code}, expected one of {', '.join(operation['responses'])}"
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.content and kind not in described.get("content", {}):
        return (
            f"{kind or 'no Content-Type'} with status {answer.status_code}, expected one of {described.get('content')}"
        )
    return None


def faults(server: Server, who: str, examples: int) -> tuple[int, dict[str, str]]:
    """How many requests were made, and the first one of each fault."""
    found: dict[str, str] = {}
    known: dict[str, dict[str, Any]] = {}
    count = 0
    for operation, cases in server.operations:
        known = known or server.fill()

        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck]
        )
        @given(case=cases, exists=st.booleans())
        def ask(case: Any, exists: bool) -> None:
            nonlocal count
            if exists:
                about(case, known)  # noqa: B023
            answer = asked(server, who, case)
            count += 1
            fault = None if answer is None else fault_of(operation.definition.raw, answer)  # noqa: B023
            if fault is not None:
                found.setdefault(f"{operation.label}: {fault}", f"{answer.request.url} {answer.text[:300]}")  # noqa: B023

        ask()
        if operation.method == "delete" or operation.path.endswith("/retry"):
            known = {}
    return count, found


# The server runs in this process: hypothesis takes what its threads draw with `random` for a strategy's doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


@pytest.mark.parametrize("who", SCOPES)
def test_every_answer_to_a_drawn_request_is_described(server: Server, who: str) -> None:
    count, found = faults(server, who, 3)
    assert count > 100
    assert found == {}


@pytest.mark.soak
@pytest.mark.parametrize("who", SCOPES)
def test_every_answer_to_500_drawn_requests_an_operation_is_described(server: Server, who: str) -> None:
    count, found = faults(server, who, 500)
    assert count > 20_000
    assert found == {}
