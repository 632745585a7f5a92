"""A small real server that keeps the wire contract, and the command line as a function."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zipfile import ZipFile

import pytest

from lensmount_client._cli.main import main

FINGERPRINT = "sha256:" + "f" * 64


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class TinyServer:
    """Keeps pushed files in memory and answers with the image's own bytes as the label.

    Images that begin with b"bad" are refused; `gate` may hold a request back.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, list[bytes]] = {"malaria": [b"malaria file"], "smoking": [b"smoking file"]}
        self.aliases: dict[str, dict[str, int]] = {"malaria": {"prod": 1}, "smoking": {}}
        self.images: list[bytes] = []
        self.gate: Callable[[bytes], object] = lambda image: None
        self.training = TinyTraining()

    def answer(self, method: str, target: str, body: bytes, headers: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, document or bytes, further headers."""
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        match method, url.path.strip("/").split("/"):
            case "POST", ["predict"]:
                return self.predict(query, body)
            case "GET", ["adapters"]:
                return 200, {"adapters": [self.info(name) for name in self.files]}, {}
            case "PUT", ["adapters", name]:
                known = self.files.setdefault(name, [])
                self.aliases.setdefault(name, {})
                status = 200 if body in known else 201
                if status == 201:
                    known.append(body)
                return status, self.identity(name, known.index(body) + 1), {}
            case "PUT", ["adapters", name, "aliases", alias]:
                self.aliases[name][alias] = json.loads(body)["version"]
                return 200, self.identity(name, self.aliases[name][alias]) | {"alias": alias}, {}
            case "DELETE", ["adapters", name, "aliases", alias]:
                del self.aliases[name][alias]
                return 204, b"", {}
            case _, ["adapters", name, *_] if name not in self.files:
                return problem(404, "adapter_not_found", f"no adapter is called {name}")
            case "GET", ["adapters", name]:
                return 200, self.info(name) | {"manifest": MANIFEST}, {}
            case "GET", ["adapters", name, "versions", version]:
                content = self.files[name][int(version) - 1]
                document = {"size_bytes": len(content), "created_at": "2026-01-02T03:04:05Z", "manifest": MANIFEST}
                return 200, self.identity(name, int(version)) | document, {}
            case "GET", ["adapters", name, "file"]:
                content = self.files[name][int(query.get("version", len(self.files[name]))) - 1]
                return 200, content, {"ETag": f'"{digest_of(content)}"'}
            case "DELETE", ["adapters", name, *_]:
                del self.files[name]
                return 204, b"", {}
            case "GET", ["health", "ready"]:
                return 200, {"status": "ok"}, {}
            case "GET", ["limits"]:
                return 200, {"max_image_bytes": 1000}, {}
            case "GET", ["integrity"]:
                return 200, {"ok": True, "tensors": 3}, {}
            case _, ["datasets", *where]:
                return self.training.datasets(method, where, query, body, headers)
            case _, ["jobs", *where]:
                return self.training.jobs(method, where, query, body, headers)
        return problem(404, "not_found", "nothing here")

    def predict(self, query: dict[str, str], image: bytes) -> tuple[int, Any, dict[str, str]]:
        self.images.append(image)
        self.gate(image)
        names = [re.split("[@:]", reference)[0] for reference in query["adapter"].split(",")]
        for name in names:
            if name not in self.files:
                return problem(404, "adapter_not_found", f"no adapter is called {name}")
        if image.startswith(b"bad"):
            return problem(422, "image_truncated", "the image ends after 3 bytes")
        results = [self.prediction(name, image.decode(errors="replace")[:20]) for name in names]
        if len(results) == 1:
            return 200, results[0], {}
        listed = [result | {"image": {"index": 0, "name": None}} for result in results]
        return 200, {"results": listed, "request_id": "r-1"}, {}

    def prediction(self, name: str, label: str) -> dict[str, Any]:
        return {
            "adapter": self.identity(name, len(self.files[name])),
            "backbone": {"name": "tiny", "fingerprint": FINGERPRINT},
            "predictions": [{"label": label, "score": 0.75}, {"label": "other", "score": 0.25}],
            "request_id": "r-1",
            "timing_ms": {"queue": 0.1, "decode": 1.0, "swap": 0.0, "forward": 4, "total": 5.1},
        }

    def identity(self, name: str, version: int) -> dict[str, Any]:
        return {"name": name, "version": version, "digest": digest_of(self.files[name][version - 1])}

    def info(self, name: str) -> dict[str, Any]:
        latest = len(self.files[name])
        return self.identity(name, latest) | {
            "size_bytes": len(self.files[name][-1]),
            "created_at": "2026-01-02T03:04:05Z",
            "method": "lora",
            "labels": MANIFEST["labels"],
            "backbone": MANIFEST["backbone"],
            "aliases": self.aliases[name],
            "versions": list(range(1, latest + 1)),
            "status": "ready",
        }


class HangUp(Exception):
    """The connection breaks here."""


class TinyTraining:
    """Datasets and jobs: keeps uploads chunk by chunk, and plays `story` as the events of every job.

    `hang_up` is asked at each chunk of an upload how many of its bytes still arrive before the connection breaks
    (None: all, and it holds; -1: all, but the answer is lost). `cuts` are the numbers of events after which the
    streams break, one a connection. A job's state follows the events that were heard of it.
    """

    def __init__(self) -> None:
        self.uploads: dict[str, bytearray] = {}
        self.stored: dict[str, list[bytes]] = {}
        self.ranges: list[str] = []
        self.hang_up: Callable[[int], int | None] = lambda size: None
        self.warnings: list[dict[str, str]] = []
        self.largest_chunk = 2**30
        self.known: dict[str, dict[str, Any]] = {}  # jobs by id
        self.keys: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.story: list[tuple[str, dict[str, Any]]] = STORY
        self.outcome: dict[str, Any] = {"state": "succeeded", "result": RESULT}
        self.cuts: list[int] = []
        self.last_ids: list[str | None] = []
        self.hold: Callable[[str], object] = lambda kind: None
        self.files = {"adapter.safetensors": b"weights", "report.html": b"<html>", "log.txt": b"started\nended\n"}

    def datasets(
        self, method: str, where: list[str], query: dict[str, str], body: bytes, headers: Any
    ) -> tuple[int, Any, dict[str, str]]:
        match method, where:
            case "GET", []:
                return 200, {"datasets": [self.dataset(name, len(self.stored[name])) for name in self.stored]}, {}
            case "GET", [name, "uploads", digest]:
                known = [len(content) - 1 for content in self.stored.get(name, []) if digest_of(content) == digest]
                return 200, {"received": known[0] if known else len(self.uploads.get(digest, b""))}, {}
            case "PUT", [name, "uploads", digest]:
                return self.chunk(name, digest, body, headers["Content-Range"])
            case _, [name, *_] if name not in self.stored:
                return problem(404, "dataset_not_found", f"no dataset is called {name}")
            case "GET", [name]:
                return 200, self.dataset(name, int(query.get("version", len(self.stored[name])))), {}
            case "GET", [name, "file"]:
                content = next(content for content in self.stored[name] if digest_of(content) == query["digest"])
                return 200, content, {"ETag": f'"{digest_of(content)}"'}
            case "DELETE", [name]:
                if any(job["dataset"]["name"] == name and job["state"] == "queued" for job in self.known.values()):
                    return problem(409, "dataset_in_use", f"a job needs {name}")
                del self.stored[name]
                return 204, b"", {}
        return problem(404, "not_found", "nothing here")

    def chunk(self, name: str, digest: str, body: bytes, content_range: str) -> tuple[int, Any, dict[str, str]]:
        self.ranges.append(content_range)
        first, last, total = map(int, re.findall("[0-9]+", content_range))
        assert last - first + 1 == len(body)
        known = [content for content in self.stored.get(name, []) if digest_of(content) == digest]
        if known and first == total - 1:
            self.uploads[digest] = bytearray(known[0][:-1])
        received = self.uploads.setdefault(digest, bytearray())
        if len(body) > self.largest_chunk:
            return problem(413, "body_too_large", "the chunk is too large")
        if first != len(received):
            status, document, more = problem(409, "upload_offset_mismatch", f"{len(received)} bytes are here")
            return status, document | {"received": len(received)}, more
        arriving = self.hang_up(len(body))
        received += body if arriving in (None, -1) else body[:arriving]
        done = self.finished(name, digest) if len(received) == total else (202, {"received": len(received)}, {})
        if arriving is not None:
            raise HangUp
        return done

    def finished(self, name: str, digest: str) -> tuple[int, Any, dict[str, str]]:
        content = bytes(self.uploads.pop(digest))
        assert digest_of(content) == digest
        names = ZipFile(BytesIO(content)).namelist()
        if not any("/" in name for name in names):
            return problem(422, "dataset_too_small", "one class, expected two")
        versions = self.stored.setdefault(name, [])
        status = 200 if versions[-1:] == [content] else 201
        if status == 201:
            versions.append(content)
        return status, self.dataset(name, len(versions)), {}

    def dataset(self, name: str, version: int) -> dict[str, Any]:
        content = self.stored[name][version - 1]
        classes: dict[str, int] = {}
        for path in ZipFile(BytesIO(content)).namelist():
            classes[path.split("/")[0]] = classes.get(path.split("/")[0], 0) + 1
        images = sum(classes.values())
        return {
            "name": name,
            "version": version,
            "digest": digest_of(content),
            "size_bytes": len(content),
            "created_at": "2026-01-02T03:04:05Z",
            "images": images,
            "classes": classes,
            "report": {
                "images": images,
                "classes": classes,
                "groups": None,
                "splits": {"train": images - 1, "test": 1},
                "sizes": {"min": [8, 8], "median": [9, 9], "max": [10, 12]},
                "formats": {"PNG": images},
                "bytes": len(content),
                "duplicates": {"files": 2, "examples": [["cat/a.png", "cat/b.png"]]},
                "near_duplicates": {"pairs": 0, "across_splits": 0, "across_classes": 0, "examples": []},
                "unreadable": {"files": 1, "examples": [{"path": "dog/[x].png", "reason": "truncated"}]},
                "ignored": {"files": 0, "examples": []},
                "balance": {"smallest": "cat", "largest": "dog", "ratio": 1.0},
                "warnings": self.warnings,
            },
        }

    def jobs(
        self, method: str, where: list[str], query: dict[str, str], body: bytes, headers: Any
    ) -> tuple[int, Any, dict[str, str]]:
        match method, where:
            case "POST", []:
                return self.submit(json.loads(body), headers["Idempotency-Key"])
            case "GET", []:
                jobs = [job for job in self.known.values() if query.get("state") in (None, job["state"])][::-1]
                older = [job["id"] for job in jobs].index(query["before"]) + 1 if "before" in query else 0
                return 200, {"jobs": jobs[older : older + int(query["limit"])]}, {}
            case _, [job_id, *_] if not re.fullmatch("[0-9a-f]{32}", job_id):
                return problem(422, "invalid_request", "an id has 32 digits")
            case _, [job_id, *_] if job_id not in self.known:
                return problem(404, "job_not_found", f"no job is called {job_id}")
            case "GET", [job_id]:
                return 200, self.known[job_id], {}
            case "GET", [job_id, "events"]:
                return 200, self.events(self.known[job_id], headers.get("Last-Event-ID")), {}
            case "DELETE", [job_id]:
                if self.known[job_id]["state"] not in ("queued", "running"):
                    return problem(409, "job_finished", "it has ended")
                self.known[job_id] |= {"state": "cancelled", "cancel_requested": True}
                return 202, self.known[job_id], {}
            case "POST", [job_id, "retry"]:
                if self.known[job_id]["state"] not in ("failed", "cancelled"):
                    return problem(409, "job_not_finished", "it has not ended")
                self.known[job_id] |= {"state": "queued", "error": None}
                return 202, self.known[job_id], {}
            case "GET", [job_id, "log"]:
                return 200, self.files["log.txt"], {"Content-Type": "text/plain; charset=utf-8"}
            case "GET", [job_id, "files"]:
                files = [{"name": n, "size_bytes": len(c), "digest": digest_of(c)} for n, c in self.files.items()]
                return 200, {"files": files}, {}
            case "GET", [job_id, "files", name]:
                return 200, self.files[name], {"ETag": '"not-a-digest"'}
        return problem(404, "not_found", "nothing here")

    def submit(self, submitted: dict[str, Any], key: str) -> tuple[int, Any, dict[str, str]]:
        self.bodies.append(submitted)
        name, _, version = submitted["dataset"].partition("@")
        if name not in self.stored:
            return problem(404, "dataset_not_found", f"no dataset is called {name}")
        if key in self.keys:
            return 200, self.known[self.keys[key]], {}
        version = int(version or len(self.stored[name]))
        job_id = f"{len(self.known) + 0xAB:02x}".ljust(32, "0")
        self.keys[key] = job_id
        self.known[job_id] = {
            "id": job_id,
            "state": "queued",
            "dataset": {"name": name, "version": version, "digest": digest_of(self.stored[name][version - 1])},
            "adapter": submitted["adapter"],
            "alias": submitted.get("alias"),
            "hyper_parameters": {"rank": submitted.get("rank", 8)},
            "priority": 0,
            "attempt": 0,
            "max_attempts": 3,
            "created_at": "2026-01-02T03:04:05.678Z",
            "started_at": None,
            "finished_at": None,
            "cancel_requested": False,
            "progress": None,
            "history": [],
            "result": None,
            "error": None,
        }
        return 201, self.known[job_id], {"Location": f"/jobs/{job_id}"}

    def events(self, job: dict[str, Any], last_id: str | None) -> Iterator[bytes]:
        """`progress` and `end` have no id, as with the real server."""
        self.last_ids.append(last_id)
        left = self.cuts.pop(0) if self.cuts else 10**9
        number = 0
        for kind, data in self.story:
            keeps = kind not in ("progress", "end")
            number += keeps
            if number < int(last_id or 0) or (keeps and number == int(last_id or 0)):
                continue
            self.hold(kind)
            if left == 0:
                yield b"event: half of"
                raise HangUp
            left -= 1
            if kind == "state":
                job["state"] = data["state"]
            if kind == "epoch" and data not in job["history"]:
                job["history"] = [*job["history"], data]
            if kind == "end":
                job |= {"started_at": "2026-01-02T03:04:06Z", "finished_at": "2026-01-02T03:04:47Z", **self.outcome}
            head = f"id: {number}\n" if keeps else ""
            yield f": alive\n\n{head}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


AT = "2026-01-02T03:04:06Z"


def epoch(number: int, accuracy: float) -> tuple[str, dict[str, Any]]:
    losses = {"loss": 1 / number, "validation_loss": 2 / number}
    return "epoch", {
        "epoch": number,
        **losses,
        "accuracy": accuracy,
        "validation_balanced_accuracy": accuracy,
        "seconds": 1.5,
    }


def progress(number: int, step: int) -> tuple[str, dict[str, Any]]:
    where = {"epoch": number, "epochs": 3, "step": step, "steps": 4, "loss": 0.5, "accuracy": 0.75}
    return "progress", {**where, "seconds_left": 9.0, "phase": "training"}


STORY: list[tuple[str, dict[str, Any]]] = [
    ("state", {"state": "queued", "attempt": 0, "at": AT}),
    ("state", {"state": "running", "attempt": 1, "at": AT}),
    ("log", {"level": "info", "message": "caching the trunk", "at": AT}),
    progress(1, 2),
    epoch(1, 0.5),
    ("log", {"level": "warning", "message": "few images", "at": AT}),
    ("brand_new", {"something": 1}),
    epoch(2, 0.75),
    progress(3, 2),
    epoch(3, 1.0),
    ("state", {"state": "succeeded", "attempt": 1, "at": AT}),
    ("end", {"state": "succeeded"}),
]
RESULT: dict[str, Any] = {
    "published": True,
    "adapter": {"name": "pets", "version": 1, "digest": digest_of(b"weights")},
    "gate": {
        "passed": True,
        "reason": "there was nothing to replace",
        "margin": 0.01,
        "forced": False,
        "balanced_accuracy": 0.962,
        "replaced": None,
    },
    "digest": digest_of(b"weights"),
    "size_bytes": 7,
    "seconds": 41.0,
    "metrics": {
        "validation": {"accuracy": 0.97, "balanced_accuracy": 0.971},
        "test": {"accuracy": 0.96, "balanced_accuracy": 0.962},
    },
    "files": ["adapter.safetensors", "report.html", "log.txt"],
}

MANIFEST: dict[str, Any] = {
    "method": "lora",
    "labels": ["parasitized", "uninfected"],
    "backbone": {"name": "tiny", "fingerprint": FINGERPRINT},
    "training": {"metrics": {"test": {"accuracy": 0.9512}, "images": 2600}},
    "license": "CC0-1.0",
}


def problem(status: int, code: str, detail: str) -> tuple[int, Any, dict[str, str]]:
    document = {"type": f"urn:lensmount:problem:{code}", "title": code, "status": status, "detail": detail}
    headers = {"Content-Type": "application/problem+json"}
    return status, document | {"code": code, "request_id": "r-2"}, headers


@pytest.fixture
def server() -> Iterator[TinyServer]:
    """A TinyServer behind a real socket; `server.url` is its address."""
    tiny = TinyServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, document, headers = tiny.answer(self.command, self.path, body, self.headers)
            except HangUp:
                self.close_connection = True
                return
            if isinstance(document, Iterator):
                self.stream(document)
                return
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "X-Request-Id": "r-1", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self, events: Iterator[bytes]) -> None:
            """Without a length and in chunks, so that a client sees whether the end is the end."""
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for event in events:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            except HangUp:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_DELETE = do  # noqa: N815  http.server looks for these names

        def log_message(self, *arguments: object) -> None:
            """Tests read better without an access log."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was interrupted hangs up in the middle."""

    with Quiet(("127.0.0.1", 0), Handler) as http:
        tiny.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tiny
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LENSMOUNT_URL", "LENSMOUNT_TOKEN", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def lensmount(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`code, out, err = lensmount("predict", "a.png", ...)`, without colours."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_info:
            main(list(arguments))
        out, err = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in capsys.readouterr())
        code = exit_info.value.code
        return code if isinstance(code, int) else 0, out, err

    return run
