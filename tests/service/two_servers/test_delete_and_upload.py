"""One server purges bytes while another one uploads the same bytes. The transaction that commits last decides.

So every listed version has its file, whatever the order. A plan of faults runs the second request at a point of the
first one: at once if no transaction is open there, otherwise in another thread, where it waits for the first.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters.faults import installed

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakePng, Zip
    from tests.service.two_servers.conftest import Pair

Ask = Callable[[], Any]
IN_TRANSACTION = {"objects.delete", "blobs.delete", "datasets.rename", "datasets.delete"}


def crossed(first: Ask, second: Ask, point: str) -> tuple[Any, Any]:
    """The answers of two requests, of which the second begins when the first is at `point`."""
    answers: list[Any] = []
    began = threading.Event()
    other = threading.Thread(target=lambda: answers.append(second()))

    def plan(at: str) -> None:
        if at == point and not began.is_set():
            began.set()
            other.start()
            other.join(0.2 if point in IN_TRANSACTION else 30)  # it waits for the first, so it cannot end

    with installed(plan):
        answer = first()
        assert began.is_set(), f"{point} was not visited"
        other.join(30)
    return answer, answers[0]


def require_file(pair: Pair, path: str, expected: bytes) -> None:
    """Both servers give the bytes, and a server with an empty folder finds them in the object store."""
    for client in (pair.here.client, pair.there.client):
        found = client.get(path)
        assert (found.status_code, found.content == expected) == (200, True), found.text[:200]


def gone(client: TestClient, path: str) -> bool:
    return client.get(path).status_code in (404, 410)


def forget_here(pair: Pair) -> None:
    """Empty the folders that only cache what the object store has."""
    for server in (pair.here, pair.there):
        for folder in ("blobs", "datasets", "pools"):
            for path in (server.parts.app.state.context.settings.state / folder).glob("[0-9a-f]*"):
                path.unlink()


@pytest.mark.parametrize("same_name", [True, False], ids=["one name", "two names"])
@pytest.mark.parametrize("point", ["objects.create", "catalog.stored", "catalog.committed", "catalog.published"])
def test_adapters_are_purged_while_they_are_uploaded(
    pair: Pair, make_adapter: MakeAdapter, point: str, same_name: bool
) -> None:
    old, data = pair.name(), make_adapter(30)
    new = old if same_name else pair.name()
    pair.there.client.put(f"/adapters/{old}", content=data).raise_for_status()
    if same_name:  # otherwise the upload makes no version
        pair.there.client.put(f"/adapters/{old}", content=make_adapter(31)).raise_for_status()

    uploaded, purged = crossed(
        lambda: pair.here.client.put(f"/adapters/{new}", content=data),
        lambda: pair.there.client.delete(f"/adapters/{old}?purge=true"),
        point,
    )
    assert (uploaded.status_code, purged.status_code) == (201, 204)
    forget_here(pair)
    if same_name and point in ("catalog.committed", "catalog.published"):  # the purge committed last
        assert all(gone(server.client, f"/adapters/{new}/file") for server in (pair.here, pair.there))
    else:
        require_file(pair, f"/adapters/{new}/file", data)
    pair.here.client.delete(f"/adapters/{new}?purge=true")


@pytest.mark.parametrize("same_name", [True, False], ids=["one name", "two names"])
@pytest.mark.parametrize("point", ["catalog.deleted", "objects.delete", "blobs.delete"])
def test_adapters_are_uploaded_while_they_are_purged(
    pair: Pair, make_adapter: MakeAdapter, point: str, same_name: bool
) -> None:
    old, data = pair.name(), make_adapter(32)
    new = old if same_name else pair.name()
    pair.there.client.put(f"/adapters/{old}", content=data).raise_for_status()

    purged, uploaded = crossed(
        lambda: pair.there.client.delete(f"/adapters/{old}?purge=true"),
        lambda: pair.here.client.put(f"/adapters/{new}", content=data),
        point,
    )
    assert (uploaded.status_code, purged.status_code) == (201, 204)
    forget_here(pair)
    require_file(pair, f"/adapters/{new}/file", data)
    pair.here.client.delete(f"/adapters/{new}?purge=true")


POINTS = ["objects.create", "datasets.shared", "datasets.rename", "datasets.delete"]


@pytest.mark.parametrize("number", range(len(POINTS)), ids=POINTS)
def test_datasets_are_purged_and_uploaded_at_once(pair: Pair, images: DrawImages, zipped: Zip, number: int) -> None:
    old, new, point = pair.name(), pair.name(), POINTS[number]
    drawn, headers = images(seed=50 + number, a=6, b=6), {"Content-Type": "application/zip"}
    pair.there.client.put(f"/datasets/{old}", content=zipped(drawn), headers=headers).raise_for_status()
    stored = pair.there.client.get(f"/datasets/{old}/file").content
    again = zipped(drawn, zipfile.ZIP_DEFLATED)  # other bytes of the same images: the server reads them again
    if point == "objects.create":  # which is visited only if the object store lacks the file
        for server in (pair.here, pair.there):
            server.parts.training.datasets.files.remove([pair.there.client.get(f"/datasets/{old}").json()["digest"]])

    def purge() -> Any:
        return pair.there.client.delete(f"/datasets/{old}?purge=true")

    def upload() -> Any:
        return pair.here.client.put(f"/datasets/{new}", content=again, headers=headers)

    first, second = (purge, upload) if point == "datasets.delete" else (upload, purge)
    for answer in crossed(first, second, point):
        assert answer.is_success, answer.text
    forget_here(pair)
    require_file(pair, f"/datasets/{new}/file", stored)
    pair.here.client.delete(f"/datasets/{new}?purge=true")


@pytest.mark.parametrize("point", ["objects.create", "objects.delete"])
def test_images_of_pools_are_deleted_and_sent_at_once(pair: Pair, make_png: MakePng, point: str) -> None:
    old, new, files = pair.name(), pair.name(), [("file", make_png(400))]
    added = pair.there.client.post(f"/datasets/{old}/unlabelled?who=reader", files=files)
    (digest,) = (image["digest"] for image in added.raise_for_status().json()["images"])
    image = pair.there.client.get(f"/datasets/{old}/unlabelled/{digest}").content
    if point == "objects.create":  # the pool is deleted before the second one has its row
        forget_here(pair)
        pair.there.client.delete(f"/datasets/{old}/unlabelled").raise_for_status()
        pair.there.client.post(f"/datasets/{old}/unlabelled?who=reader", files=files).raise_for_status()
        pair.there.parts.training.pools.files.remove([digest])  # so that the second request stores the image

    def delete() -> Any:
        return pair.there.client.delete(f"/datasets/{old}/unlabelled")

    def send() -> Any:
        return pair.here.client.post(f"/datasets/{new}/unlabelled?who=reader", files=files)

    first, second = (send, delete) if point == "objects.create" else (delete, send)
    for answer in crossed(first, second, point):
        assert answer.is_success, answer.text
    forget_here(pair)
    require_file(pair, f"/datasets/{new}/unlabelled/{digest}", image)
    pair.here.client.delete(f"/datasets/{new}/unlabelled")
