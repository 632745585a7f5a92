"""Images without labels are sent over HTTP, proposed, labelled, and become a version that a job can train on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lensmount_service.build import open_parts
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages

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
def name(request: pytest.FixtureRequest) -> str:
    return f"d{abs(hash(request.node.name)) % 10**9}"


@pytest.fixture
def digests(api: TestClient, name: str, images: DrawImages) -> list[str]:
    files = [("file", data) for data in images(seed=len(name), a=8).values()]
    answer = api.post(f"/datasets/{name}/unlabelled?who=reader1&group=slide 1", files=files)
    assert answer.status_code == 201
    assert answer.json()["added"] == 8
    return [image["digest"] for image in answer.json()["images"]]


def test_one_image_is_sent_as_the_body_and_kept_once(api: TestClient, name: str, images: DrawImages) -> None:
    (data,) = images(a=1).values()
    first = api.post(f"/datasets/{name}/unlabelled?who=reader1", content=data).json()
    again = api.post(f"/datasets/{name}/unlabelled?who=reader2", content=data).json()

    assert (first["added"], again["added"]) == (1, 0)
    assert again["images"] == first["images"]
    assert first["images"][0]["added_by"] == "reader1"


def test_an_image_of_a_pool_is_shown_small(api: TestClient, name: str, digests: list[str]) -> None:
    answer = api.get(f"/datasets/{name}/unlabelled/{digests[0]}?side=32")

    assert max(Image.open(io.BytesIO(answer.content)).size) <= 32
    assert api.get(f"/datasets/other/unlabelled/{digests[0]}").json()["code"] == "file_not_found"


def test_labels_are_listed_with_who_and_when(api: TestClient, name: str, digests: list[str]) -> None:
    for who, label in (("reader1", "cat"), ("reader2", "dog")):
        answer = api.post(f"/datasets/{name}/labels", json={"who": who, "labels": {digests[0]: label}})
        assert answer.status_code == 201

    listed = api.get(f"/datasets/{name}/labels").json()["labels"]
    assert [(each["who"], each["label"]) for each in listed] == [("reader1", "cat"), ("reader2", "dog")]
    later = api.get(f"/datasets/{name}/labels?after={listed[0]['number']}").json()["labels"]
    assert later == listed[1:]


def test_labelled_images_become_a_version_with_their_groups(api: TestClient, name: str, digests: list[str]) -> None:
    labels = {digest: "cat" if index % 2 else "dog" for index, digest in enumerate(digests)}
    api.post(f"/datasets/{name}/labels", json={"who": "reader1", "labels": labels})

    answer = api.post(f"/datasets/{name}/versions")

    assert answer.status_code == 201
    assert answer.json()["classes"] == {"cat": 4, "dog": 4}
    assert (answer.json()["labelled"], answer.json()["disputed"]) == (8, [])
    assert api.get(f"/datasets/{name}").json()["digest"] == answer.json()["digest"]
    assert api.post(f"/datasets/{name}/versions").status_code == 200  # nothing new


def test_a_version_can_start_from_another_dataset(
    api: TestClient, name: str, digests: list[str], images: DrawImages, zipped: Zip
) -> None:
    api.put(f"/datasets/{name}-base", content=zipped(images(seed=77, cat=4, dog=4)))
    api.post(f"/datasets/{name}/labels", json={"who": "reader1", "labels": {digests[0]: "cat"}})

    answer = api.post(f"/datasets/{name}/versions?base={name}-base@1")

    assert answer.json()["classes"] == {"cat": 5, "dog": 4}
    assert api.post(f"/datasets/{name}/versions?base=none").json()["code"] == "dataset_not_found"
    assert api.post(f"/datasets/{name}/versions?base=a:b").json()["code"] == "invalid_reference"


def test_too_few_labels_are_refused_and_change_nothing(api: TestClient, name: str, digests: list[str]) -> None:
    api.post(f"/datasets/{name}/labels", json={"who": "reader1", "labels": {digests[0]: "cat"}})

    assert api.post(f"/datasets/{name}/versions").json()["code"] == "dataset_too_small"
    assert api.get(f"/datasets/{name}").json()["code"] == "dataset_not_found"


def test_a_deleted_pool_is_gone(api: TestClient, name: str, digests: list[str]) -> None:
    assert api.delete(f"/datasets/{name}/unlabelled").status_code == 204
    assert api.get(f"/datasets/{name}/unlabelled/{digests[0]}").status_code == 404
    assert api.delete(f"/datasets/{name}/unlabelled").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "Fix: send JSON such as"),
        (b"[]", 422, "Fix: send JSON such as"),
        (b'{"who": "reader1", "labels": {}}', 422, "labels"),
        (b'{"who": "", "labels": {"sha256:%s": "a"}}' % (b"0" * 64), 422, "who"),
        (b'{"who": "a\\u0000b", "labels": {"sha256:%s": "a"}}' % (b"0" * 64), 422, "who"),
        (b'{"who": "\\ud800", "labels": {"sha256:%s": "a"}}' % (b"0" * 64), 422, "Fix: send JSON such as"),
        (b'{"who": "reader1", "labels": {"x": "a"}}', 422, "labels.x"),
        (b'{"who": "reader1", "labels": {"sha256:%s": "a\\u0000"}}' % (b"0" * 64), 422, "choose another label"),
        (b'{"who": "reader1", "labels": {"sha256:%s": "a"}}' % (b"0" * 64), 404, "/next"),
        (b'{"who": "reader1", "labels": "' + b"x" * 2**21 + b'"}', 413, "Fix: send less"),
    ],
)
def test_bad_labels_are_refused_as_a_whole(
    api: TestClient, name: str, digests: list[str], body: bytes, status: int, message: str
) -> None:
    answer = api.post(f"/datasets/{name}/labels", content=body)

    assert (answer.status_code, message in answer.json()["detail"]) == (status, True), answer.json()
    assert api.get(f"/datasets/{name}/labels").json()["labels"] == []


@pytest.mark.parametrize("who", ["", "%00", "%20ann", "a%0Ab", "x" * 65])
def test_a_name_that_cannot_be_shown_is_refused(api: TestClient, name: str, who: str) -> None:
    assert api.post(f"/datasets/{name}/unlabelled?who={who}", content=b"x").status_code == 422


def test_several_images_are_added_all_or_not_at_all_and_the_refusal_names_each_bad_one(
    api: TestClient, name: str, images: DrawImages
) -> None:
    good = list(images(seed=9, a=3).values())
    path = f"/datasets/{name}/unlabelled?who=reader1"
    sent = [good[0], b"no image", good[1], good[2][:60], good[2]]

    refused = api.post(path, files=[("file", data) for data in sent])

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (415, "unsupported_image_format")  # the first one's
    assert "2 of 5 images" in problem["detail"]
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [
        ("/file/1", "unsupported_image_format"),
        ("/file/3", "image_truncated"),
    ]
    assert api.get(f"/datasets/{name}/unlabelled").status_code == 404
    assert api.post(path, files=[("file", data) for data in good]).json()["added"] == 3


def test_images_of_one_request_are_one_step_of_the_pool_s_etag_and_a_repeated_request_none(
    api: TestClient, name: str, images: DrawImages
) -> None:
    files = [("file", data) for data in images(seed=11, a=4).values()]
    path = f"/datasets/{name}/unlabelled"
    assert api.post(f"{path}?who=reader1", files=files[:1], headers={"If-None-Match": "*"}).status_code == 201
    before = api.get(path)
    seen = {"If-Match": before.headers["ETag"]}
    assert before.json() == {"name": name, "images": 1, "labels": 0, "size_bytes": len(files[0][1])}

    for added in (3, 0):  # the answer may have been lost
        answer = api.post(f"{path}?who=reader1", files=files, headers=seen)
        assert (answer.status_code, answer.json()["added"]) == (201, added)
    after = api.get(path)
    assert after.json()["images"] == 4
    assert after.headers["ETag"] != before.headers["ETag"]
    assert api.post(f"{path}?who=reader1", content=images(seed=12, b=1)["b/0.png"], headers=seen).status_code == 412

    digest = answer.json()["images"][0]["digest"]
    label = {"who": "reader1", "labels": {digest: "cat"}}
    assert api.post(f"/datasets/{name}/labels", json=label, headers=seen).status_code == 412
    now = {"If-Match": after.headers["ETag"]}
    assert api.post(f"/datasets/{name}/labels", json=label, headers=now).status_code == 201
    assert api.delete(path, headers=now).status_code == 412
    assert api.delete(path, headers={"If-Match": api.get(path).headers["ETag"]}).status_code == 204
