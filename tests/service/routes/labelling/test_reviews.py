"""A dataset is reviewed over HTTP, its images are shown, and edits make a new version without touching the old one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lensmount_service.build import open_parts
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import Until

DrawImages = Callable[..., dict[str, bytes]]
Zip = Callable[..., bytes]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        state=tmp_path_factory.mktemp("state"),
        backbone="test_efficientnet",
        weights="random:0",
        zoo=False,
        threads=1,
        executor="eager",
        precision="float32",
    )
    with open_parts(settings) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def name(api: TestClient, images: DrawImages, zipped: Zip, request: pytest.FixtureRequest) -> str:
    """A dataset of its own for each test, with the paths a/0.png to a/5.png and b/0.png to b/5.png."""
    name = f"d{abs(hash(request.node.name)) % 10**9}"
    files = images(seed=len(request.node.name), a=6, b=6)
    assert api.put(f"/datasets/{name}", content=zipped(files)).status_code == 201
    return name


def paths_of(api: TestClient, name: str, version: int | None = None) -> dict[str, str]:
    query = f"?version={version}" if version else ""
    with zipfile.ZipFile(io.BytesIO(api.get(f"/datasets/{name}/file{query}").content)) as archive:
        rows = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
    return {row["path"]: row["label"] for row in rows}


def test_a_review_is_computed_in_the_background_and_kept(api: TestClient, name: str, until: Until) -> None:
    assert api.get(f"/datasets/{name}/review").json()["state"] == "none"

    started = api.post(f"/datasets/{name}/review")
    assert started.status_code == 202
    assert started.json()["state"] in ("waiting", "running")
    until(lambda: api.get(f"/datasets/{name}/review").json()["state"] == "done", seconds=300)

    document = api.get(f"/datasets/{name}/review?version=1").json()
    assert document["review"]["images"] == 12
    assert document["digest"] == api.get(f"/datasets/{name}").json()["digest"]
    assert api.post(f"/datasets/{name}/review").status_code == 200


@pytest.mark.parametrize(
    ("group_regex", "message"),
    [
        ("(", "Fix: correct it"),
        ("^(c)", "does not match"),
        ("a" * 513, "at most 512 characters"),
    ],
    ids=["none", "other", "long"],
)
def test_an_expression_that_cannot_find_the_groups_is_refused_before_the_review_waits(
    api: TestClient, name: str, group_regex: str, message: str
) -> None:
    query = {"group_regex": group_regex}

    answer = api.post(f"/datasets/{name}/review", params=query)

    assert (answer.status_code, message in answer.json()["detail"]) == (422, True), answer.json()
    if len(group_regex) <= 512:
        assert api.get(f"/datasets/{name}/review", params=query).json()["state"] == "none"


def test_relabelled_and_excluded_images_are_in_the_new_version_only(api: TestClient, name: str) -> None:
    before = paths_of(api, name)
    first, second, *_ = sorted(before)

    answer = api.patch(f"/datasets/{name}/items", json={"relabel": {first: "b"}, "exclude": [second]})

    assert answer.status_code == 201
    assert answer.json()["version"] == 2
    assert answer.json()["classes"] == {"a": 4, "b": 7}
    assert paths_of(api, name) == {**{path: before[path] for path in before if path != second}, first: "b"}
    assert paths_of(api, name, 1) == before
    assert answer.headers["Location"] == f"/datasets/{name}?version=2"


def test_an_edit_of_an_old_version_starts_from_it(api: TestClient, name: str) -> None:
    first, second, *_ = sorted(paths_of(api, name))
    api.patch(f"/datasets/{name}/items", json={"exclude": [first]})

    answer = api.patch(f"/datasets/{name}/items?version=1", json={"exclude": [second]})

    assert answer.json()["version"] == 3
    assert first in paths_of(api, name)


def test_an_edit_that_changes_nothing_makes_no_version(api: TestClient, name: str) -> None:
    first = sorted(paths_of(api, name))[0]

    answer = api.patch(f"/datasets/{name}/items", json={"relabel": {first: "a"}})

    assert answer.status_code == 200
    assert answer.json()["version"] == 1


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "Fix: send JSON such as"),
        (b"[1]", 422, "Fix: send JSON such as"),
        (b'{"exclude": [1]}', 422, "exclude.0"),
        (b'{"relabel": {"a": null}}', 422, "relabel.a"),
        (b'{"other": 1}', 422, "other"),
        (b"\xff\xfe", 422, "Fix: send JSON such as"),
        (b'{"relabel": {}}', 422, "found no changes"),
        (b'{"exclude": ["a/none.png"]}', 422, "expected paths such as"),
        (b'{"exclude": ["\\ud800"]}', 422, "Fix"),
        (b'{"exclude": ["' + b"x" * (17 * 2**20) + b'"]}', 413, "Fix: send less"),
    ],
)
def test_a_bad_edit_is_refused_and_changes_nothing(
    api: TestClient, name: str, body: bytes, status: int, message: str
) -> None:
    answer = api.patch(f"/datasets/{name}/items", content=body)

    assert answer.status_code == status
    assert message in answer.json()["detail"]
    assert api.get(f"/datasets/{name}").json()["version"] == 1


def test_too_few_images_of_a_class_are_refused(api: TestClient, name: str) -> None:
    most = [path for path, label in paths_of(api, name).items() if label == "a"][1:]

    answer = api.patch(f"/datasets/{name}/items", json={"exclude": most})

    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_too_small")


def test_an_image_is_shown_small_and_only_images_are(api: TestClient, name: str) -> None:
    path = sorted(paths_of(api, name))[0]

    answer = api.get(f"/datasets/{name}/items/image", params={"path": path, "side": 16, "version": 1})

    assert answer.headers["Content-Type"] == "image/png"
    assert max(Image.open(io.BytesIO(answer.content)).size) == 16
    assert "max-age" in answer.headers["Cache-Control"]
    for other in ("manifest.jsonl", "none.png", "../registry.sqlite3", "", "\x00"):
        refused = api.get(f"/datasets/{name}/items/image", params={"path": other})
        assert (refused.status_code, refused.json()["code"]) == (404, "file_not_found"), other


def test_an_unknown_dataset_is_not_found_by_any_of_them(api: TestClient) -> None:
    def code(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.json()["code"]

    missing = (404, "dataset_not_found")
    assert code(api.post("/datasets/none/review")) == missing
    assert code(api.get("/datasets/none/review")) == missing
    assert code(api.patch("/datasets/none/items", json={"exclude": ["a"]})) == missing
    assert code(api.get("/datasets/none/items/image?path=a")) == missing
