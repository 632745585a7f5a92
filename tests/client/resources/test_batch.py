"""A batch run asks about each image once, writes what was answered, and resumes a stopped one."""

from __future__ import annotations

import asyncio
import csv
import json
import threading
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from lensmount_client import (
    AdapterNotFound,
    AliasNotFound,
    AsyncClient,
    Client,
    InvalidInput,
    ServerUnreachable,
    VersionNotFound,
)
from lensmount_client._resources import batch as module
from lensmount_client._types.batch import BATCH_COLUMNS

DIGESTS = {number: f"sha256:{str(number) * 64}" for number in (1, 2, 3)}
FINGERPRINT = "sha256:" + "f" * 64


def problem(status: int, code: str, detail: str = "no", **headers: str) -> httpx.Response:
    body = {"type": f"urn:lensmount:problem:{code}", "title": code, "status": status, "detail": detail, "code": code}
    kind = {"Content-Type": "application/problem+json", **headers}
    return httpx.Response(status, json=body | {"request_id": "r"}, headers=kind)


class Server:
    """Answers like a server with the adapters `cells` (versions 1 to 3, prod is 2) and `tiles`."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.references: set[str] = set()
        self.gate: Callable[[list[bytes]], httpx.Response | None] = lambda images: None
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name, *rest = request.url.path.removeprefix("/adapters/").split("/versions/")
        if request.url.path == "/predict":
            return self._predict(request)
        if name not in ("cells", "tiles"):
            return problem(404, "adapter_not_found")
        number = int(rest[0]) if rest else 3
        entry = {"name": name, "version": number, "digest": DIGESTS[number], "size_bytes": 1, "method": "lora"}
        entry |= {"created_at": "2026-01-02T03:04:05Z", "labels": ["a", "b"], "aliases": {"prod": 2}, "manifest": {}}
        entry |= {"backbone": {"name": "n", "fingerprint": FINGERPRINT}, "versions": [1, 2, 3], "status": "ready"}
        return httpx.Response(200, json=entry)

    def _predict(self, request: httpx.Request) -> httpx.Response:
        head = b"Content-Type: " + request.headers["Content-Type"].encode() + b"\r\n\r\n"
        images = [part.get_payload(decode=True) for part in message_from_bytes(head + request.read()).get_payload()]  # type: ignore[union-attr]
        refused = self.gate(images)  # type: ignore[arg-type]
        if refused is not None:
            return refused
        assert request.url.params["priority"] == "low"
        with self._lock:
            self.asked += images  # type: ignore[arg-type]
        names = request.url.params["adapter"].split(",")
        self.references |= set(names)
        results = [self._result(number, image, name) for number, image in enumerate(images) for name in names]
        if len(results) == 1 and "error" in results[0]:
            return problem(422, "image_truncated", "it ends")
        if len(results) == 1:
            return httpx.Response(200, json=results[0])
        return httpx.Response(207, json={"results": results, "request_id": "r"})

    def _result(self, index: int, image: Any, reference: str) -> dict[str, Any]:
        name, _, digest = reference.partition("@")
        version = next(number for number, known in DIGESTS.items() if known == digest)
        result: dict[str, Any] = {
            "adapter": {"name": name, "version": version, "digest": digest},
            "image": {"index": index},
        }
        if image.startswith(b"bad"):
            return result | {"error": {"status": 422, "code": "image_truncated", "detail": "it ends"}}
        trust = {"decision": "accept", "confidence": 0.75, "set": ["a"], "calibration": None}
        return result | {
            "backbone": {"name": "n", "fingerprint": FINGERPRINT},
            "predictions": [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}],
            "request_id": "r",
            "timing_ms": {"total": 1.0},
            "trust": trust | {"unfamiliarity": {"percentile": 12.5, "flag": False}},
        }


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Any:
    with Client(transport=httpx.MockTransport(server), retries=0, sleep=lambda _: None) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """50 images in two folders, one of them bad."""
    for number in range(50):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bad" if number == 7 else f"image {number}".encode())
    return tmp_path / "images"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read by libraries that know nothing of Lensmount."""
    if path.suffix == ".parquet":
        table: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return [{**row, "scores": dict(row["scores"]) if row["scores"] else None} for row in table]
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        found = list(csv.DictReader(file))
    numbers = ("score", "confidence", "percentile", "version")
    for row in found:
        row |= {name: json.loads(row[name]) if row[name] else None for name in (*numbers, "scores", "set")}
        row |= {name: row[name] or None for name in ("label", "decision", "error", "detail", "fingerprint")}
    return found


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_every_format_has_one_row_for_each_image_and_adapter(
    suffix: str, client: Client, server: Server, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"results{suffix}"
    told: list[tuple[int, int | None]] = []
    result = client.batch(folder, ["cells:prod", "tiles"], out, progress=lambda *each: told.append(each))

    assert (result.images, result.rows, result.failed, result.resumed) == (50, 100, 1, 0)
    assert [(each.name, each.version) for each in result.adapters] == [("cells", 2), ("tiles", 3)]
    rows = rows_of(out)
    assert [(row["file"], row["adapter"]) for row in rows] == [
        (str(path), name) for path in sorted(folder.rglob("*.png")) for name in ("cells:prod", "tiles")
    ]
    assert tuple(rows[0]) == BATCH_COLUMNS
    assert rows[0] == {
        "file": str(folder / "a" / "00.png"),
        "adapter": "cells:prod",
        "label": "a",
        "score": 0.75,
        "scores": {"a": 0.75, "b": 0.25},
        "decision": "accept",
        "confidence": 0.75,
        "set": ["a"],
        "percentile": 12.5,
        "error": None,
        "detail": None,
        "version": 2,
        "digest": DIGESTS[2],
        "fingerprint": FINGERPRINT,
    }
    (bad, _) = [row for row in rows if row["error"]]
    assert (bad["file"], bad["error"], bad["detail"]) == (str(folder / "b" / "07.png"), "image_truncated", "it ends")
    assert bad["label"] is None
    assert bad["scores"] is None
    assert told[-1] == (50, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", out.name]
    assert server.references == {f"cells@{DIGESTS[2]}", f"tiles@{DIGESTS[3]}"}


def test_a_run_that_was_stopped_goes_on_with_the_same_versions_and_asks_nothing_twice(
    client: Client, server: Server, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    server.gate = lambda images: problem(404, "version_not_found") if len(server.asked) >= 20 else None
    with pytest.raises(VersionNotFound):
        client.batch(folder, "cells:prod", out)
    journal = tmp_path / "results.jsonl.partial"
    kept = journal.read_bytes()
    journal.write_bytes(kept + b'{"file": "images/b/49.png", "ro')  # what a kill leaves of a line
    done = kept.count(b"\n") - 1
    assert 0 < done < 50
    asked = len(server.asked)

    server.gate = lambda images: None
    result = client.batch(folder, "cells:prod", out)

    assert (result.images, result.resumed) == (50, done)
    assert len(server.asked) - asked == 50 - done
    assert [row["file"] for row in rows_of(out)] == [str(path) for path in sorted(folder.rglob("*.png"))]
    assert not journal.exists()


def test_a_server_that_is_away_or_busy_is_asked_again(
    client: Client, server: Server, folder: Path, tmp_path: Path
) -> None:
    refusals = iter([problem(429, "queue_full", **{"Retry-After": "3"}), problem(503, "draining")])
    waited: list[float] = []

    def gate(images: list[bytes]) -> httpx.Response | None:
        if (refusal := next(refusals, None)) is not None:
            return refusal
        if not waited:
            raise httpx.ConnectError("refused")
        return None

    server.gate = gate
    client.batch._sleep = waited.append
    assert client.batch(folder, "cells", tmp_path / "out.csv").rows == 50
    assert {3.0, module.RETRY_S} <= set(waited)


def test_a_server_that_stays_away_ends_the_run(
    client: Client, server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(images: list[bytes]) -> httpx.Response | None:
        raise httpx.ConnectError("refused")

    server.gate = away
    monkeypatch.setattr(module, "PATIENCE_S", -1.0)
    with pytest.raises(ServerUnreachable):
        client.batch(folder, "cells", tmp_path / "out.csv")


def test_a_request_that_is_too_large_is_sent_image_by_image(
    client: Client, server: Server, folder: Path, tmp_path: Path
) -> None:
    def gate(images: list[bytes]) -> httpx.Response | None:
        if len(images) > 1 or images[0] == b"image 9":
            return problem(413, "body_too_large")
        return None

    server.gate = gate
    out = tmp_path / "out.jsonl"
    assert client.batch(folder, "cells", out).failed == 2
    assert {row["error"] for row in rows_of(out)} == {None, "body_too_large", "image_truncated"}


def test_a_file_that_cannot_be_read_is_a_row(client: Client, server: Server, folder: Path, tmp_path: Path) -> None:
    (folder / "a" / "00.png").write_bytes(b"")
    out = tmp_path / "out.jsonl"
    assert client.batch(folder, "cells", out).failed == 2
    assert (rows_of(out)[0]["error"], rows_of(out)[0]["digest"]) == ("invalid_input", DIGESTS[3])


def test_the_async_client_does_the_same(server: Server, folder: Path, tmp_path: Path) -> None:
    server.gate = lambda images: problem(404, "version_not_found") if len(server.asked) >= 20 else None
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    async def run() -> Any:
        async with AsyncClient(transport=httpx.MockTransport(server), retries=0, sleep=nap) as client:
            with pytest.raises(VersionNotFound):
                await client.batch(folder, ["cells"], tmp_path / "out.jsonl")
            refusals = iter([problem(503, "draining")])
            server.gate = lambda images: next(refusals, None)
            return await client.batch([str(folder)], ["cells"], tmp_path / "out.jsonl")

    result = asyncio.run(run())
    assert (result.images, result.rows) == (50, 50)
    assert result.resumed > 0
    assert naps == [module.RETRY_S]
    assert len(rows_of(tmp_path / "out.jsonl")) == 50


def test_any_object_with_names_and_bytes_is_a_source(client: Client, server: Server, tmp_path: Path) -> None:
    class Slide:
        def names(self) -> Any:
            return iter([f"tile {number}" for number in range(20)])

        def read(self, name: str) -> bytes:
            return name.encode()

    assert client.batch(Slide(), "cells", tmp_path / "out.jsonl").rows == 20
    assert [row["file"] for row in rows_of(tmp_path / "out.jsonl")] == [f"tile {number}" for number in range(20)]


@pytest.mark.parametrize(
    ("reference", "error"),
    [("cels", AdapterNotFound), ("cells:none", AliasNotFound), (f"cells@sha256:{'9' * 64}", VersionNotFound)],
)
def test_an_adapter_that_is_not_there_ends_it_before_any_image(
    reference: str, error: type[Exception], client: Client, server: Server, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(error):
        client.batch(folder, reference, tmp_path / "out.jsonl")
    assert server.asked == []


@pytest.mark.parametrize(("reference", "version"), [("cells@1", 1), (f"cells@{DIGESTS[1]}", 1), ("cells:prod", 2)])
def test_a_reference_is_one_version_to_the_end(
    reference: str, version: int, client: Client, folder: Path, tmp_path: Path
) -> None:
    assert client.batch(folder, reference, tmp_path / "out.jsonl").adapters[0].version == version


def test_wrong_use_is_refused_with_the_way_out(client: Client, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"expected a name that ends in \.parquet, \.csv, \.jsonl"):
        client.batch(folder, "cells", tmp_path / "out.xlsx")
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(InvalidInput, match="found a file there"):
        client.batch(folder, "cells", tmp_path / "there.csv")
    (tmp_path / "out.csv.partial").write_text("no journal\n")
    with pytest.raises(InvalidInput, match="not the journal of a batch run"):
        client.batch(folder, "cells", tmp_path / "out.csv")
    (tmp_path / "out.csv.partial").unlink()
    head = {"format": 1, "asked": ["tiles"], "adapters": []}
    (tmp_path / "out.csv.partial").write_text(json.dumps(head) + "\n")
    with pytest.raises(InvalidInput, match="found a run with tiles that was not finished"):
        client.batch(folder, "cells", tmp_path / "out.csv")
    with pytest.raises(InvalidInput, match="no such file or folder"):
        client.batch(tmp_path / "none", "cells", tmp_path / "other.csv")


def test_without_pyarrow_parquet_says_what_to_install(
    client: Client, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_client._files.batch_output.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r'pip install "lensmount\[parquet\]"'):
        client.batch(folder, "cells", tmp_path / "out.parquet")
    assert client.batch(folder, "cells", tmp_path / "out.jsonl").rows == 50
