from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensmount_service.store.shares import Shares
from lensmount_service.tenants.zoo import share_zoo

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter
    from tests.service.tenants.conftest import Server


@pytest.fixture
def zoo(tmp_path: Path, make_adapter: MakeAdapter) -> Path:
    for number, name in enumerate(("leaves", "stones", "clouds")):
        (tmp_path / f"{name}.safetensors").write_bytes(make_adapter((1, 2, 9)[number]))
    return tmp_path


def test_the_zoo_is_shared_once_except_for_what_the_operator_replaced_or_unshared(
    server: Server, zoo: Path, make_adapter: MakeAdapter
) -> None:
    catalog, shares = server.parts.catalog, Shares(server.parts.training.jobs.database)
    server.done("default", "PUT", "/adapters/stones", content=make_adapter(11))  # not that of the zoo
    server.done("lab1", "PUT", "/adapters/own", content=make_adapter(12))
    server.done("lab1", "PUT", "/adapters/own/shared?as=clouds")  # the public name is taken
    catalog.load_zoo(zoo)

    assert share_zoo(catalog, shares, zoo) == ["leaves"]
    assert server.done("lab2", "GET", "/adapters/public/leaves")["tenant"] == "public"
    server.done("default", "DELETE", "/adapters/leaves/shared")
    assert share_zoo(catalog, shares, zoo) == []
    assert server.ask("lab2", "GET", "/adapters/public/leaves").status_code == 404
