from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lensmount_service.access.public_paths import PublicPaths, with_slashes


def path_behind(path: str) -> str:
    """The path that the application behind the middleware gets."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    asyncio.run(PublicPaths(app)({"type": "http", "path": path}, None, None))  # type: ignore[arg-type]  # not called
    return seen[0]


@pytest.mark.parametrize("start", ["/adapters/", "/datasets/", "/integrations/labelstudio/", "/v1/models/", "/hf/"])
@pytest.mark.parametrize("end", ["", "/file", "/versions/3", "/items/image"])
def test_a_public_name_is_one_part_of_the_path_until_the_route_reads_it(start: str, end: str) -> None:
    path = path_behind(f"{start}public/malaria{end}")

    assert path.startswith(start)
    name, slash, rest = path.removeprefix(start).partition("/")
    assert with_slashes({"name": name, "version": 3}) == {"name": "public/malaria", "version": 3}
    assert slash + rest == end


@pytest.mark.parametrize(
    "path",
    ["/adapters/malaria", "/adapters/public", "/adapters/public/", "/adapters/lab1/x", "/jobs/1/files/public/x", "/"],
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert path_behind(path) == path
