"""Random histories of two tenants on the real server equal those of a small model, across restarts.

`pytest -m soak tests/service/histories` draws 500 histories of 50 steps; the usual run draws 12 of 30.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.service.histories.reference import Reference, Refused

from lensmount_adapters.adapter.file import digest_of

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng
    from tests.service.known_machine import KnownMachine

    from lensmount_adapters import Backbone

TENANTS = ("lab1", "lab2")
tenants, names = st.sampled_from(TENANTS), st.sampled_from(["cells", "tiles"])
aliases, numbers = st.sampled_from(["prod", "next"]), st.integers(1, 4)


class Histories(RuleBasedStateMachine):
    """Each rule asks the server and the model, and compares status and contents."""

    def __init__(self, machine: KnownMachine, backbone: Backbone, files: list[bytes], image: bytes) -> None:
        super().__init__()
        self.machine, self.backbone, self.files, self.image = machine, backbone, files, image
        self.model = Reference()
        self.folder = ExitStack()
        self.state = Path(self.folder.enter_context(tempfile.TemporaryDirectory()))
        self.open = ExitStack()
        self.tokens: dict[str, str] = {}

    @initialize()
    def start(self) -> None:
        self.restart()
        for tenant in TENANTS:
            self.tokens[tenant] = self.app.state.tokens.create("reader1", {"admin"}, tenant)[1]

    @rule()
    def restart(self) -> None:
        self.open.close()
        parts = self.open.enter_context(self.machine.open(self.state, self.backbone))
        self.app = parts.app
        self.client = self.open.enter_context(TestClient(parts.app, base_url="http://127.0.0.1"))

    @rule(tenant=tenants, name=names, file=st.integers(0, 2))
    def upload(self, tenant: str, name: str, file: int) -> None:
        data = self.files[file]
        answer = self.ask(tenant, "PUT", f"/adapters/{name}", content=data)
        assert (answer.status_code, answer.json()["version"]) == self.model.upload(tenant, name, digest_of(data))

    @rule(tenant=tenants, name=names, number=st.none() | numbers, purge=st.sampled_from([False, False, True]))
    def delete(self, tenant: str, name: str, number: int | None, purge: bool) -> None:
        path = f"/adapters/{name}" if number is None else f"/adapters/{name}/versions/{number}"
        answer = self.ask(tenant, "DELETE", path, params={"purge": str(purge).lower()})
        self.same(answer, 204, lambda: self.model.delete(tenant, name, number, purge))

    @rule(tenant=tenants, name=names, number=st.none() | numbers)
    def undelete(self, tenant: str, name: str, number: int | None) -> None:
        path = f"/adapters/{name}/undelete" if number is None else f"/adapters/{name}/versions/{number}/undelete"
        self.same(self.ask(tenant, "POST", path), 200, lambda: self.model.undelete(tenant, name, number))

    @rule(tenant=tenants, name=names, alias=aliases, number=numbers)
    def point(self, tenant: str, name: str, alias: str, number: int) -> None:
        answer = self.ask(tenant, "PUT", f"/adapters/{name}/aliases/{alias}", json={"version": number})
        digest = self.same(answer, 200, lambda: self.model.point(tenant, name, alias, number))
        assert digest is None or answer.json()["digest"] == digest

    @rule(tenant=tenants, name=names, alias=aliases)
    def unpoint(self, tenant: str, name: str, alias: str) -> None:
        answer = self.ask(tenant, "DELETE", f"/adapters/{name}/aliases/{alias}")
        self.same(answer, 204, lambda: self.model.unpoint(tenant, name, alias))

    @rule(tenant=tenants, name=names, number=st.none() | numbers, alias=st.none() | aliases)
    def predict(self, tenant: str, name: str, number: int | None, alias: str | None) -> None:
        number = None if alias else number
        end = f":{alias}" if alias else f"@{number}" if number else ""
        answer = self.ask(tenant, "POST", f"/predict?adapter={name}{end}", content=self.image)
        digest = self.same(answer, 200, lambda: self.model.resolve(tenant, name, number, alias))
        assert digest is None or answer.json()["adapter"]["digest"] == digest

    @precondition(lambda self: self.tokens)
    @invariant()
    def lists_are_those_of_the_model(self) -> None:
        for tenant in TENANTS:
            listed = self.ask(tenant, "GET", "/adapters").json()["adapters"]
            expected = {
                name: ([version.number for version in adapter.live()], self.model.aliases(adapter))
                for (owner, name), adapter in self.model.adapters.items()
                if owner == tenant and adapter.live()
            }
            assert {each["name"]: (each["versions"], each["aliases"]) for each in listed} == expected

    def ask(self, tenant: str, method: str, path: str, **options: Any) -> Any:
        return self.client.request(method, path, headers={"Authorization": f"Bearer {self.tokens[tenant]}"}, **options)

    def same(self, answer: Any, status: int, of_model: Callable[[], Any]) -> Any:
        """What the model returns; the answer has `status`, or that with which the model refuses."""
        try:
            result = of_model()
        except Refused as refused:
            result, status = None, refused.status
        assert answer.status_code == status, answer.text
        return result

    def teardown(self) -> None:
        self.open.close()
        self.folder.close()


def draw(histories: int, steps: int, *of: Any) -> None:
    with_parts: Any = partial(Histories, *of)  # Hypothesis calls it, though its types ask for a class
    run_state_machine_as_test(
        with_parts,
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def files(make_adapter: MakeAdapter) -> list[bytes]:
    return [make_adapter(seed, ("a", "b")) for seed in (1, 2, 5)]


def test_random_histories_are_those_of_the_model(
    machine: KnownMachine, backbone: Backbone, files: list[bytes], make_png: MakePng
) -> None:
    draw(12, 30, machine, backbone, files, make_png(1))


@pytest.mark.soak
def test_500_histories_are_those_of_the_model(
    machine: KnownMachine, backbone: Backbone, files: list[bytes], make_png: MakePng
) -> None:
    draw(500, 50, machine, backbone, files, make_png(1))
