"""lensmount_service.ray.hints: which adapter a request will probably need."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from tests.service.conftest import MakeAdapter

from lensmount_adapters import Backbone, admit
from lensmount_service.access.authenticator import Authenticator
from lensmount_service.access.tokens import TokenStore
from lensmount_service.ray.hints import Hints, reference_in
from lensmount_service.store.database import Database
from lensmount_service.store.keys import key_of
from lensmount_service.store.registry import Registry

NONE = Headers({})


@pytest.mark.parametrize(
    ("path", "query", "headers", "named"),
    [
        ("/predict", b"adapter=cells", {}, ("cells", "")),
        ("/predict", b"top_k=1&adapter=cells%3Aprod", {}, ("cells:prod", "")),
        ("/predict", b"adapter=cells,tiles", {}, ("cells", "")),
        ("/explain", b"adapter=cells@2", {}, ("cells@2", "")),
        ("/v2/models/cells/infer", b"", {}, ("cells", "")),
        ("/v2/models/cells/versions/3/infer", b"", {}, ("cells", "3")),
        ("/hf/cells@2", b"", {}, ("cells@2", "")),
        ("/integrations/labelstudio/cells/predict", b"", {}, ("cells", "")),
        ("/invocations", b"", {"X-Amzn-SageMaker-Custom-Attributes": "adapter=cells,token=x"}, ("cells", "")),
        ("/invocations", b"", {"X-Amzn-SageMaker-Target-Model": "cells"}, ("cells", "")),
        ("/predict", b"", {}, None),
        ("/predict", b"&" * 5000 + b"adapter=cells", {}, None),
        ("/predict", b"adapter=%ff%00", {}, ("\ufffd\0", "")),
        ("/adapters/cells", b"", {}, None),
        ("/jobs", b"", {}, None),
    ],
)
def test_the_reference_of_a_prediction_is_found_wherever_a_protocol_has_it(
    path: str, query: bytes, headers: dict[str, str], named: tuple[str, str] | None
) -> None:
    assert reference_in(path, query, Headers(headers)) == named


@pytest.fixture
def registry(tmp_path: Path, backbone: Backbone, make_adapter: MakeAdapter) -> Iterator[Registry]:
    """`cells` of the default tenant in two versions, and another adapter of that name for the tenant lab."""
    database = Database(tmp_path / "registry.sqlite3")
    registry = Registry(database)
    for key, seed in (("cells", 1), ("cells", 2), (key_of("lab", "cells"), 3)):
        adapter = admit(make_adapter(seed), backbone)
        registry.publish(key, adapter.digest, adapter.size_bytes, adapter.manifest)
    yield registry
    database.close()


def test_a_name_gives_the_digest_that_the_caller_will_get_at_this_moment(
    tmp_path: Path, registry: Registry, backbone: Backbone, make_adapter: MakeAdapter
) -> None:
    first, second, third = (admit(make_adapter(seed), backbone).digest for seed in (1, 2, 3))
    tokens = TokenStore(Database(tmp_path / "registry.sqlite3"))
    hints = Hints(registry, Authenticator(tokens))

    def digest(path: str, query: bytes = b"", **headers: str) -> str | None:
        return asyncio.run(hints.digest("POST", path, query, Headers({"host": "localhost", **headers})))

    assert digest("/predict", b"adapter=cells") == second
    assert digest("/predict", b"adapter=cells@1") == first
    assert digest("/v2/models/cells/versions/1/infer") == first
    assert digest("/predict", f"adapter=cells@{first}".encode()) == first
    assert digest("/predict", b"adapter=public/cells") == second
    _, secret = tokens.create("reader", {"predict"}, "lab")
    assert digest("/predict", b"adapter=cells", authorization=f"Bearer {secret}") == third
    registry.delete("cells")
    assert digest("/hf/cells") == "cells@"


@pytest.mark.parametrize("reference", ["nothing", "no such&name", "", "cells@0", "a" * 5000])
def test_what_names_nothing_is_a_hint_of_its_own_and_no_error(
    tmp_path: Path, registry: Registry, reference: str
) -> None:
    hints = Hints(registry, Authenticator(TokenStore(Database(tmp_path / "registry.sqlite3"))))
    asked = asyncio.run(hints.digest("POST", "/predict", f"adapter={reference}".encode(), NONE))
    assert asked is None or asked.startswith(reference[:7])


def test_requests_that_read_have_no_hint(registry: Registry, tmp_path: Path) -> None:
    hints = Hints(registry, Authenticator(TokenStore(Database(tmp_path / "registry.sqlite3"))))
    assert asyncio.run(hints.digest("GET", "/predict", b"adapter=cells", NONE)) is None
