"""Datasets over HTTP: uploaded at once or in chunks, checked, reported, downloaded, deleted."""

from __future__ import annotations

import hashlib
import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.build import Parts
from lensmount_service.store.datasets import DatasetStore

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts

DrawImages = Callable[..., dict[str, bytes]]
Zip = Callable[..., bytes]


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts(max_upload_chunk_bytes=4096, max_dataset_bytes=2**20, max_dataset_classes=20) as parts:
        yield parts


@pytest.fixture
def api(parts: Parts) -> Iterator[TestClient]:
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put_chunk(api: TestClient, name: str, data: bytes, first: int, last: int, digest: str | None = None) -> Any:
    return api.put(
        f"/datasets/{name}/uploads/{digest or digest_of(data)}",
        content=data[first : last + 1],
        headers={"Content-Range": f"bytes {first}-{last}/{len(data)}"},
    )


def test_a_zip_becomes_a_version_with_a_report_and_reads_back(api: TestClient, images: DrawImages, zipped: Zip) -> None:
    files = images(a=3, b=2) | {"a/.DS_Store": b"x", "b/notes.txt": b"x"}

    answer = api.put("/datasets/cells", content=zipped(files))

    assert answer.status_code == 201
    info = answer.json()
    assert (info["name"], info["version"], info["images"], info["classes"]) == ("cells", 1, 5, {"a": 3, "b": 2})
    assert answer.headers["Location"] == "/datasets/cells?version=1"
    assert info["report"]["ignored"]["files"] == 2
    assert info["report"]["formats"] == {"PNG": 5}
    assert api.get("/datasets/cells").json() == api.get("/datasets/cells?version=1").json() == info
    assert api.get("/datasets").json() == {"datasets": [info]}
    for query in ("", "?version=1", f"?digest={info['digest']}"):
        file = api.get(f"/datasets/cells/file{query}")
        assert file.headers["ETag"] == f'"{info["digest"]}"'
        assert file.headers["Content-Type"] == "application/zip"
        assert len(file.content) == info["size_bytes"]
        assert digest_of(file.content) == info["digest"]
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist() if name != "manifest.jsonl"} == images(a=3, b=2)


def test_equal_contents_are_the_same_version_and_other_contents_the_next(
    api: TestClient, images: DrawImages, zipped: Zip
) -> None:
    first = api.put("/datasets/cells", content=zipped(images(a=2, b=2)))
    packed_otherwise = {f"top/{name}": data for name, data in reversed(images(a=2, b=2).items())}

    again = api.put("/datasets/cells", content=zipped(packed_otherwise, zipfile.ZIP_DEFLATED))
    other = api.put("/datasets/cells", content=zipped(images(a=2, b=3)))
    back = api.put("/datasets/cells", content=zipped(images(a=2, b=2)))

    assert (first.status_code, again.status_code, other.status_code, back.status_code) == (201, 200, 201, 201)
    assert again.json() == first.json()
    assert (other.json()["version"], back.json()["version"]) == (2, 3)
    assert back.json()["digest"] == first.json()["digest"]
    assert api.get("/datasets/cells").json() == back.json()


def test_a_labels_file_sets_labels_groups_and_splits(api: TestClient, images: DrawImages, zipped: Zip) -> None:
    files = images(cells=6)
    rows = [f"{name},{'xy'[i % 2]},g{i},{'test' if i > 3 else 'train'}" for i, name in enumerate(files)]

    info = api.put(
        "/datasets/cells", content=zipped(files | {"labels.csv": "\n".join(["path,label,group,split", *rows]).encode()})
    ).json()

    assert info["classes"] == {"x": 3, "y": 3}
    assert info["report"]["splits"] == {"train": 4, "validation": 0, "test": 2}
    assert info["report"]["groups"] == 6


def bad_archives(images: DrawImages, zipped: Zip) -> dict[str, tuple[bytes, int, str]]:
    good = images(a=2, b=2)
    link = zipfile.ZipInfo("a/9.png")
    link.external_attr = 0o120777 << 16
    with_link = io.BytesIO()
    with zipfile.ZipFile(with_link, "w") as archive:
        for name, data in good.items():
            archive.writestr(name, data)
        archive.writestr(link, "/etc/passwd")
    whole = zipped(good)
    return {
        "ZIP-01 not a zip": (b"hello", 422, "zip_malformed"),
        "ZIP-01 empty": (b"", 422, "zip_malformed"),
        "ZIP-01 truncated": (whole[:-30], 422, "zip_malformed"),
        "ZIP-03 ratio": (zipped({"a/1.png": bytes(900_000)}, zipfile.ZIP_DEFLATED), 413, "zip_too_large"),
        "ZIP-03 total": (
            zipped({f"a/{i}.png": random.Random(i % 3).randbytes(30_000) * 2 for i in range(30)}, zipfile.ZIP_DEFLATED),
            413,
            "zip_too_large",
        ),
        "ZIP-05 path": (zipped(good | {"../x.png": b"x"}), 422, "zip_bad_path"),
        "ZIP-06 link": (with_link.getvalue(), 422, "zip_symlink"),
        "ZIP-07 case": (zipped(good | {"a/X.png": b"", "a/x.png": b""}), 422, "zip_duplicate_name"),
        "ZIP-09 no images": (zipped({"a/readme.txt": b"x", "b/readme.txt": b"x"}), 422, "dataset_too_small"),
        "ZIP-09 nothing": (zipped({}), 422, "dataset_too_small"),
        "ZIP-09 one class": (zipped(images(a=4)), 422, "dataset_too_small"),
        "ZIP-09 one image per class": (zipped(images(a=1, b=1)), 422, "dataset_too_small"),
        "ZIP-09 many classes": (
            zipped({f"{i}/{j}.png": b"" for i in range(30) for j in range(2)}), 413, "dataset_too_large"
        ),
        "ZIP-10 unreadable": (zipped(good | {"a/0.png": b"broken"}), 422, "dataset_unreadable"),
        "ZIP-11 case": (zipped(good | {"labels.csv": b"path,label\na/0.png,x\nb/0.png,X\n"}), 422, "dataset_invalid"),
        "ZIP-11 unknown file": (zipped(good | {"labels.csv": b"path,label\na/7.png,x\n"}), 422, "dataset_invalid"),
        "ZIP-11 several labels": (zipped(good | {"labels.csv": b"path,label\na/0.png,x|y\n"}), 422, "dataset_invalid"),
        "ZIP-11 encoding": (zipped(good | {"labels.csv": b"path,label\na/0.png,\xff\n"}), 422, "dataset_invalid"),
        "ZIP-12 method": (zipped(good, zipfile.ZIP_BZIP2), 422, "zip_method_not_supported"),
    }  # fmt: skip


def test_an_invalid_dataset_is_refused_with_its_code_and_leaves_nothing(
    api: TestClient, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    for case, (data, status, code) in bad_archives(images, zipped).items():
        answer = api.put("/datasets/cells", content=data)
        assert (answer.status_code, answer.json()["code"]) == (status, code), case
        if case.startswith("ZIP-11"):
            assert "row " in answer.json()["detail"], case
        assert str(tmp_path) not in answer.text, case

    assert api.get("/datasets").json() == {"datasets": []}
    assert [path for path in (tmp_path / "datasets").rglob("*") if path.is_file()] == []


def test_a_refusal_leaves_the_previous_version_in_place(api: TestClient, images: DrawImages, zipped: Zip) -> None:
    info = api.put("/datasets/cells", content=zipped(images(a=2, b=2))).json()

    assert api.put("/datasets/cells", content=b"no zip").status_code == 422

    assert api.get("/datasets/cells").json() == info


def test_a_body_over_the_limit_is_refused_while_it_is_read(api: TestClient, tmp_path: Path) -> None:
    answer = api.put("/datasets/cells", content=iter([b"x" * 65536] * 20))

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert [path for path in (tmp_path / "datasets").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["Cells", "a b", "x" * 65, "..", "latest", "%2e%2e%2fx"])
def test_bad_names_are_refused_on_every_route(api: TestClient, name: str) -> None:
    digest = f"sha256:{'0' * 64}"
    assert api.put(f"/datasets/{name}", content=b"").status_code in (404, 405, 422)
    assert api.get(f"/datasets/{name}/uploads/{digest}").status_code in (404, 422)
    assert api.put(f"/datasets/{name}/uploads/{digest}", content=b"").status_code in (404, 422)
    assert api.get(f"/datasets/{name}").status_code in (200, 404)  # ".." resolves to the list


def test_unknown_datasets_and_versions_are_not_found(api: TestClient, images: DrawImages, zipped: Zip) -> None:
    api.put("/datasets/cells", content=zipped(images(a=2, b=2)))

    for method, path in (
        ("GET", "/datasets/other"),
        ("GET", "/datasets/other/file"),
        ("GET", "/datasets/cells?version=2"),
        ("GET", "/datasets/cells/file?version=2"),
        ("GET", f"/datasets/cells/file?digest=sha256:{'0' * 64}"),
        ("DELETE", "/datasets/other"),
        ("DELETE", "/datasets/cells?version=2"),
    ):
        answer = api.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found"), path
    for path in ("/datasets/cells?version=0", "/datasets/cells?version=x", "/datasets/cells/file?digest=md5:1"):
        assert api.get(path).status_code == 422


def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(
    api: TestClient, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    for seed in (1, 2):
        api.put("/datasets/cells", content=zipped(images(seed, a=2, b=2)))
    api.put("/datasets/twin", content=zipped(images(1, a=2, b=2)))

    assert api.delete("/datasets/cells?version=1").status_code == 204

    gone = api.get("/datasets/cells?version=1")
    assert (gone.status_code, gone.json()["code"]) == (410, "dataset_gone")
    assert api.get("/datasets/cells").json()["version"] == 2
    assert api.get("/datasets/twin/file").status_code == 200  # its file is still needed
    assert api.delete("/datasets/cells").status_code == 204
    assert api.get("/datasets/cells").json()["code"] == "dataset_not_found"
    assert api.get("/datasets/cells/file?version=2").json()["code"] == "dataset_gone"
    assert api.delete("/datasets/cells?purge=true").status_code == 204
    assert len(list((tmp_path / "datasets").glob("*.zip"))) == 1
    assert api.put("/datasets/cells", content=zipped(images(2, a=2, b=2))).json()["version"] == 3


def test_a_damaged_file_is_not_served_and_an_upload_repairs_it(
    api: TestClient, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    data = zipped(images(a=2, b=2))
    info = api.put("/datasets/cells", content=data).json()
    path = tmp_path / "datasets" / f"{info['digest'].removeprefix('sha256:')}.zip"
    path.write_bytes(path.read_bytes()[:-1])

    answer = api.get("/datasets/cells/file")
    assert (answer.status_code, answer.json()["code"]) == (503, "dataset_corrupt")

    assert api.put("/datasets/cells", content=data).status_code == 200
    assert digest_of(api.get("/datasets/cells/file").content) == info["digest"]


# In chunks


def test_an_upload_in_chunks_resumes_where_it_stopped(api: TestClient, images: DrawImages, zipped: Zip) -> None:
    data = zipped(images(a=3, b=3))
    where = f"/datasets/cells/uploads/{digest_of(data)}"
    draw = random.Random(0)
    steps = 0
    while True:
        first = api.get(where).json()["received"]
        last = min(first + draw.randint(1, 3000), len(data)) - 1
        answer = put_chunk(api, "cells", data, first, last)
        if answer.status_code == 201:
            break
        assert (answer.status_code, answer.json()) == (202, {"received": last + 1})
        if draw.random() < 0.3:  # the response was lost, so the chunk is sent again
            again = put_chunk(api, "cells", data, first, last)
            assert (again.status_code, again.json()["code"]) == (409, "upload_offset_mismatch")
            assert again.json()["received"] == last + 1
        steps += 1

    assert steps > 3
    assert answer.json()["classes"] == {"a": 3, "b": 3}
    assert answer.json()["digest"] == api.put("/datasets/whole", content=data).json()["digest"]


def test_the_same_archive_again_costs_one_byte(
    api: TestClient, images: DrawImages, zipped: Zip, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = zipped(images(a=2, b=2))
    first = api.put("/datasets/cells", content=data).json()
    monkeypatch.setattr("lensmount_service.store.datasets.write_dataset_archive", lambda *_: pytest.fail("read again"))
    end = len(data) - 1

    for name, status in (("cells", 200), ("other", 201)):
        assert api.get(f"/datasets/{name}/uploads/{digest_of(data)}").json() == {"received": end}
        answer = put_chunk(api, name, data, end, end)
        assert (answer.status_code, answer.json()["digest"]) == (status, first["digest"])


def test_an_upload_that_was_complete_when_the_server_died_is_finished_by_its_last_byte(
    api: TestClient, parts: Parts, images: DrawImages, zipped: Zip
) -> None:
    data = zipped(images(a=2, b=2))
    digest, end = digest_of(data), len(data) - 1
    for first in range(0, len(data), 4096):
        parts.training.datasets.append("cells", digest, first, data[first : first + 4096], len(data))

    assert api.get(f"/datasets/cells/uploads/{digest}").json() == {"received": end}
    assert put_chunk(api, "cells", data, end, end).status_code == 201


def test_an_admission_that_a_shutdown_ends_keeps_its_bytes_for_the_next_start(
    api: TestClient, parts: Parts, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    data = zipped(images(a=2, b=2))
    store = parts.training.datasets
    for first in range(0, len(data) - 1, 4096):
        put_chunk(api, "cells", data, first, min(first + 4096, len(data) - 1) - 1)

    store.close()
    answer = put_chunk(api, "cells", data, len(data) - 1, len(data) - 1)
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")
    assert api.get("/datasets").json() == {"datasets": []}

    restarted = DatasetStore(parts.training.jobs.database, tmp_path / "datasets")
    assert restarted.append("cells", digest_of(data), len(data) - 1, data[-1:], len(data)) is None
    dataset, created = restarted.finish("cells", digest_of(data), len(data))
    assert (dataset.version, dataset.classes, created) == (1, {"a": 2, "b": 2}, True)


def test_bytes_that_do_not_match_the_digest_are_refused_and_dropped(
    api: TestClient, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    data = zipped(images(a=2, b=2))[:4000]
    digest = f"sha256:{'1' * 64}"

    answer = put_chunk(api, "cells", data, 0, 3999, digest)

    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert api.get(f"/datasets/cells/uploads/{digest}").json() == {"received": 0}
    assert list((tmp_path / "datasets" / "uploads").iterdir()) == []


def test_an_upload_that_is_refused_is_dropped(api: TestClient, tmp_path: Path) -> None:
    answer = put_chunk(api, "cells", b"this is not zip", 0, 14)

    assert (answer.status_code, answer.json()["code"]) == (422, "zip_malformed")
    assert list((tmp_path / "datasets" / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes 0-9", "bytes 0-9/*", "bytes */10", "bytes 9-0/10", "bytes 0-10/10", "bytes -1-9/10",
     "items 0-9/10", "bytes 0-9/10, 3", "bytes \u0660-9/10", "bytes 0-9/" + "9" * 30, "bytes 0-4/10"],
)  # fmt: skip
def test_an_impossible_content_range_is_refused(api: TestClient, header: str | None, tmp_path: Path) -> None:
    headers = {} if header is None else {b"Content-Range": header.encode()}

    answer = api.put(f"/datasets/cells/uploads/sha256:{'0' * 64}", content=b"x" * 10, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert list((tmp_path / "datasets" / "uploads").iterdir()) == []


def test_chunks_and_totals_over_the_limits_are_refused(api: TestClient) -> None:
    data = bytes(5000)
    assert put_chunk(api, "cells", data, 0, 4999).status_code == 413

    where = f"/datasets/cells/uploads/{digest_of(data)}"
    answer = api.put(where, content=b"x", headers={"Content-Range": f"bytes 0-0/{2**20 + 1}"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert api.get("/datasets/cells/uploads/sha256:xyz").status_code == 422
    assert api.get("/limits").json()["max_upload_chunk_bytes"] == 4096


def test_no_mutation_of_a_good_zip_is_a_server_error(api: TestClient, images: DrawImages, zipped: Zip) -> None:
    good = zipped(images(a=2, b=2) | {"labels.csv": b"path,label\na/0.png,x\na/1.png,x\nb/0.png,y\nb/1.png,y\n"})
    assert api.put("/datasets/cells", content=good).status_code == 201
    draw = random.Random(5)
    statuses = set()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data))
            data[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
        answer = api.put("/datasets/fuzz", content=bytes(data))
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 201, 413, 422)
        assert answer.status_code < 300 or answer.json()["code"].startswith(("zip_", "dataset_"))

    assert 422 in statuses


def test_a_deleted_dataset_comes_back_with_its_archive_and_a_purged_one_does_not(
    api: TestClient, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    for seed in (1, 2):
        api.put("/datasets/cells", content=zipped(images(seed, a=2, b=2)))
    before = api.get("/datasets/cells").json(), api.get("/datasets/cells/file").content
    api.delete("/datasets/cells?version=1")
    api.delete("/datasets/cells")
    refused = api.get("/datasets/cells")
    assert (refused.status_code, refused.json()["code"]) == (404, "dataset_not_found")
    way_back = re.search(r"POST (/datasets/cells/undelete)", refused.json()["detail"])
    assert way_back is not None

    assert api.post(way_back[1]).json() == before[0]
    assert api.get("/datasets/cells/file").content == before[1]
    gone = api.get("/datasets/cells?version=1")  # it was deleted before, so it is not back
    way_back = re.search(r"POST (/datasets/cells/undelete[?]version=1)", gone.json()["detail"])
    assert (gone.status_code, way_back is not None) == (410, True)
    assert api.post("/datasets/cells/undelete?version=1").status_code == 200
    assert api.get("/datasets/cells?version=1").status_code == 200
    assert api.post("/datasets/cells/undelete?version=1").status_code == 200  # again changes nothing

    assert api.delete("/datasets/cells?version=1&purge=true").status_code == 204
    refused = api.post("/datasets/cells/undelete?version=1")
    assert (refused.status_code, refused.json()["code"], "undelete" in refused.json()["detail"]) == (
        *(410, "dataset_gone"),
        False,
    )
    assert len(list((tmp_path / "datasets").glob("*.zip"))) == 1
    assert api.post("/datasets/none/undelete").json()["code"] == "dataset_not_found"
