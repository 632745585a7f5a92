"""GET /: the files of the page, their headers, and what they may load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from lensmount_service.app import OPEN_PATHS
from lensmount_service.routes.page import FILES

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts

TOKEN = "a-token-of-the-lab"
FOLDER = Path(str(files("lensmount_service").joinpath("page")))


def names() -> Iterator[str]:
    """The files of the folder, such as `lib/api.js`."""
    return (file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*") if file.is_file())


@pytest.mark.parametrize("path", FILES)
def test_each_file_has_a_strict_policy_and_is_revalidated_by_its_etag(shared_client: TestClient, path: str) -> None:
    response = shared_client.get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == FILES[path][1]
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert (response.headers["X-Content-Type-Options"], response.headers["Cache-Control"]) == ("nosniff", "no-cache")

    head = shared_client.head(path)
    assert (head.status_code, head.headers["ETag"]) == (200, response.headers["ETag"])
    again = shared_client.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert shared_client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_page_needs_no_token_and_everything_else_does(make_parts: MakeParts) -> None:
    assert FILES.keys() <= OPEN_PATHS
    with make_parts(token=TOKEN) as parts, TestClient(parts.app, base_url="http://lab.example") as client:
        assert client.get("/").status_code == 200
        assert client.get("/adapters").status_code == 401
        assert client.get("/page/").status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/page/", "/page/lib", "/page/nothing.js", "/page/../middleware.py", "/index.html"):
            response = client.get(path, headers=headers)
            assert (response.status_code, response.json()["code"]) == (404, "not_found"), path
        response = client.post("/", headers=headers)
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


def test_every_file_of_the_folder_is_served_and_loads_nothing_from_elsewhere() -> None:
    assert set(names()) == {name for name, _ in FILES.values()}
    for name in names():
        if not name.endswith((".html", ".css", ".js", ".svg")):
            continue
        text = (FOLDER / name).read_text()
        text = text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.search(r"(https?:)?//[\w.-]+\.\w", text.replace("// ", "")), name
        if name.startswith("vendor/"):  # Preact can do more than the page's policy lets it
            continue
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval *\(|new Function|localStorage", text
        ), name
        for target in re.findall(r'(?:(?:href|src)=|from |import\()"([^"#$]+)"', text):
            base = FOLDER.parent if name == "index.html" else (FOLDER / name).parent
            found = (base / target).resolve()
            known = target in ("docs", "metrics") or found.relative_to(FOLDER).as_posix() in set(names())
            assert known, f"{name} -> {target}"


def test_the_browser_is_told_of_every_module_of_the_first_view_at_once() -> None:
    """Otherwise it would find a module only when the one before has come."""
    needed, new = set(), {"views/ask.js"}
    while new:
        needed |= new
        texts = {name: (FOLDER / name).read_text() for name in new}
        imported = {
            (FOLDER / name).parent.joinpath(target).resolve().relative_to(FOLDER).as_posix()
            for name, text in texts.items()
            for target in re.findall(r'from "(\.[^"]+)"', text)
        }
        new = imported - needed
    told = re.findall(r'<link rel="modulepreload" href="page/([^"]+)">', (FOLDER / "index.html").read_text())
    assert sorted(told) == sorted(needed)
