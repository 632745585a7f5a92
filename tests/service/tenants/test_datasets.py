"""Each tenant has its own datasets, and trains on those that others share."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, Zip
    from tests.service.tenants.conftest import Server


@pytest.fixture(scope="module", autouse=True)
def _sent(server: Server, archive: bytes) -> None:
    server.done("lab1", "PUT", "/datasets/slides", content=archive)


def test_an_upload_tells_nothing_of_the_same_file_at_another_tenant(server: Server, archive: bytes) -> None:
    path = f"/datasets/slides/uploads/sha256:{hashlib.sha256(archive).hexdigest()}"
    size = len(archive)
    last = {"Content-Range": f"bytes {size - 1}-{size - 1}/{size}"}

    assert server.done("lab1", "GET", path) == {"received": size - 1}
    assert server.done("lab2", "GET", path) == {"received": 0}
    refused = server.ask("lab2", "PUT", path, content=archive[-1:], headers=last)
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_offset_mismatch")
    all_bytes = {"Content-Range": f"bytes 0-{size - 1}/{size}"}
    assert server.done("lab2", "PUT", path, content=archive, headers=all_bytes)["version"] == 1
    assert server.done("lab2", "GET", path) == {"received": size - 1}


def test_a_file_that_two_tenants_sent_stays_until_both_have_deleted_it(server: Server, archive: bytes) -> None:
    for who in ("lab1", "lab2"):
        server.done(who, "PUT", "/datasets/same", content=archive)
    server.done("lab2", "DELETE", "/datasets/same")

    assert server.ask("lab1", "GET", "/datasets/same/file").status_code == 200
    server.done("lab1", "DELETE", "/datasets/same")


def test_answers_say_whose_a_dataset_is_and_who_uploaded_it(server: Server) -> None:
    shown = server.done("lab1", "GET", "/datasets/slides")

    assert (shown["name"], shown["tenant"], shown["owner"]) == ("slides", "lab1", "lab1-boss")
    assert "Did you mean" not in server.ask("default", "GET", "/datasets/slide").json()["detail"]


def test_others_read_and_train_on_a_shared_dataset_by_its_public_name(server: Server) -> None:
    server.done("lab1", "PUT", "/datasets/slides/shared?as=blood")

    shown = server.done("lab2", "GET", "/datasets/public/blood")
    assert (shown["name"], shown["tenant"], shown["owner"]) == ("public/blood", "public", None)
    assert [d["name"] for d in server.done("lab2", "GET", "/datasets?public=true")["datasets"]] == ["public/blood"]
    file = server.ask("lab2", "GET", "/datasets/public/blood/file")
    assert file.headers["content-disposition"] == 'attachment; filename="blood.zip"'
    job = server.done("lab2", "POST", "/jobs", json={"dataset": "public/blood@1", "adapter": "mine"})
    assert (job["dataset"]["name"], job["tenant"], job["owner"]) == ("public/blood", "lab2", "lab2-boss")
    in_use = server.ask("lab1", "DELETE", "/datasets/slides").json()
    assert in_use["code"] == "dataset_in_use"
    assert "such as one of another tenant" in in_use["detail"]
    assert job["id"] not in in_use["detail"]

    server.done("lab1", "DELETE", "/datasets/slides/shared")
    assert server.ask("lab2", "GET", "/datasets/public/blood").status_code == 404
    assert server.done("lab2", "GET", f"/jobs/{job['id']}")["dataset"]["name"] == "public/blood"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/datasets/public/blood"),
        ("DELETE", "/datasets/public/blood"),
        ("POST", "/datasets/public/blood/versions"),
        ("POST", "/datasets/public/blood/unlabelled?who=me"),
        ("DELETE", "/datasets/public/blood/unlabelled"),
        ("GET", "/datasets/public/blood/labels"),
        ("PUT", "/datasets/public/blood/shared"),
    ],
)
def test_a_public_dataset_is_read_only_and_its_pool_is_its_owner_s(server: Server, method: str, path: str) -> None:
    for who in ("lab1", "lab2"):
        refused = server.ask(who, method, path)
        assert (refused.status_code, refused.json()["code"]) == (403, "public_read_only"), who


def test_a_review_of_the_same_images_is_computed_for_each_tenant(
    server: Server, images: DrawImages, zipped: Zip
) -> None:
    """So that nobody learns by an answer at once that another tenant has them."""
    data = zipped(images(seed=9, a=6, b=6))
    for who in ("lab1", "lab2"):
        server.done(who, "PUT", "/datasets/reviewed", content=data)
    assert server.done("lab1", "POST", "/datasets/reviewed/review")["state"] != "none"

    assert server.done("lab2", "GET", "/datasets/reviewed/review")["state"] == "none"
