"""Datasets and jobs of the tiny server: uploads chunk by chunk, and the events of a job."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from tests.client.wire import digest_of, problem

DRAFT: dict[str, Any] = {
    "images": 40,
    "left_out": 2,
    "most_of_a_class": 200,
    "classes": {"cat": 20, "dog": 20},
    "balanced_accuracy": 0.875,
    "judged_by": "cross-validation",
    "seconds": 1.25,
}
_UNDONE: dict[str, Any] = {"phase": None, "done": 0, "total": 0, "review": None, "error": None}
REVIEW: dict[str, Any] = {
    "images": 3,
    "checked": 3,
    "accuracy": 0.75,
    "flagged": 1,
    "labels": [
        {"path": "cat/[b].png", "label": "cat", "suggested": "dog", "quality": 0.125, "flagged": True},
        {"path": "cat/a.png", "label": "cat", "suggested": "dog", "quality": 0.45, "flagged": False},
    ],
    "outlier_count": 1,
    "outliers": [{"path": "dog/c.png", "label": "dog", "distance": 1.5}],
    "look_alike_count": 1,
    "leak_count": 1,
    "conflict_count": 1,
    "look_alikes": [
        {
            "paths": ["cat/a.png", "dog/c.png"],
            "labels": ["cat", "dog"],
            "parts": ["train", "test"],
            "similarity": 0.97,
            "leak": True,
            "conflict": True,
        }
    ],
    "shortcuts": [],
    "notes": ["1 label(s) are likely wrong"],
}
REVIEWS: list[dict[str, Any]] = [
    {"state": "waiting", **_UNDONE},
    {"state": "running", **_UNDONE, "phase": "features", "done": 1, "total": 3},
    {"state": "done", **_UNDONE, "review": REVIEW},
]


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
        self.deleted: dict[str, list[bytes]] = {}
        self.ranges: list[str] = []
        self.hang_up: Callable[[int], int | None] = lambda size: None
        self.warnings: list[dict[str, str]] = []
        self.largest_chunk = 2**30
        self.reviews: list[dict[str, Any]] = REVIEWS  # each question gets the next one, and the last one stays
        self.edits: list[tuple[str | None, dict[str, Any]]] = []
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
            case "POST", [name, "undelete"] if name in self.deleted:
                self.stored[name] = self.deleted.pop(name)
                return 200, self.dataset(name, len(self.stored[name])), {}
            case _, [name, *_] if name not in self.stored:
                return problem(404, "dataset_not_found", f"no dataset is called {name}")
            case "GET", [name]:
                return 200, self.dataset(name, int(query.get("version", len(self.stored[name])))), {}
            case "GET", [name, "file"]:
                content = next(content for content in self.stored[name] if digest_of(content) == query["digest"])
                return 200, content, {"ETag": f'"{digest_of(content)}"'}
            case (("POST" | "GET"), [name, "review"]):
                answers = self.reviews[1:] or self.reviews
                self.reviews = answers if method == "GET" else self.reviews
                version = int(query.get("version", len(self.stored[name])))
                return 200, {"name": name, "version": version, **self.reviews[0]}, {}
            case "POST", [name, "draft"]:
                return 201, {"name": query["adapter"], "version": 1, "digest": "sha256:" + "d" * 64, "draft": DRAFT}, {}
            case "PATCH", [name, "items"]:
                self.edits.append((query.get("version"), json.loads(body)))
                return 201, self.dataset(name, len(self.stored[name])), {}
            case "DELETE", [name]:
                if any(job["dataset"]["name"] == name and job["state"] == "queued" for job in self.known.values()):
                    return problem(409, "dataset_in_use", f"a job needs {name}")
                gone = self.stored.pop(name)
                if "purge" not in query:
                    self.deleted[name] = gone
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
            case "DELETE", [job_id, "files"]:
                if self.known[job_id]["state"] in ("queued", "running"):
                    return problem(409, "job_not_finished", "it has not ended")
                self.files.clear()
                return 204, b"", {}
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
            "canary": submitted.get("canary"),
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
