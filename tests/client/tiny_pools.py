"""The pools of the small server: images that wait for labels, in memory."""

from __future__ import annotations

import json
from typing import Any

from tests.client.wire import digest_of, problem

ADAPTER = {"name": "malaria", "version": 1, "digest": "sha256:" + "0a" * 32}


class TinyPools:
    """Scores an image only at the second request. `feedback_on` allows corrections."""

    def __init__(self) -> None:
        self.images: dict[str, list[bytes]] = {}
        self.labels: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.feedback_on = True

    def answer(
        self, method: str, name: str, part: str, query: dict[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        match method, part:
            case "POST", "unlabelled":
                self.images.setdefault(name, []).append(body)
                image = {"digest": digest_of(body), "size_bytes": len(body), "added_at": 1.5, "added_by": query["who"]}
                return 201, {"images": [image | {"group": query.get("group")}], "added": 1}, {}
            case _, _ if name not in self.images:
                return problem(404, "dataset_not_found", f"no images wait for {name}")
            case "DELETE", "unlabelled":
                del self.images[name]
                return 204, b"", {}
            case "GET", "unlabelled":
                return 200, b"PNG " + query["side"].encode(), {"Content-Type": "image/png"}
            case "POST", "next":
                return self.next(name, query)
            case "POST", "labels":
                given = json.loads(body)
                made = [self.label(digest, label, given["who"]) for digest, label in given["labels"].items()]
                return 201, {"labels": made}, {}
            case "GET", "labels":
                after = [label for label in self.labels if label["number"] > int(query["after"])]
                return 200, {"labels": after[:2]}, {}
            case "POST", "versions":
                return 201, self.version(name, query.get("base")), {}
        return problem(404, "not_found", "nothing here")

    def summaries(self) -> tuple[int, Any, dict[str, str]]:
        labelled = {label["digest"] for label in self.labels}
        pools = [
            {
                **{"name": name, "images": len(images), "size_bytes": sum(map(len, images))},
                **{"labelled": len(labelled & set(map(digest_of, images))), "held": {"reader2": 1}},
            }
            for name, images in self.images.items()
        ]
        return 200, {"pools": pools}, {}

    def next(self, name: str, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        self.asked.append(query)
        done = len(self.asked) > 1
        scores = [{"label": "Parasitized", "score": 0.6}, {"label": "Uninfected", "score": 0.4}]
        items = [{"digest": digest_of(image), "predictions": scores} for image in self.images[name]]
        document = {
            **{"name": name, "adapter": ADAPTER, "strategy": query["strategy"], "lease_s": float(query["lease_s"])},
            **{"state": "done" if done else "scoring", "done": len(items) if done else 0, "total": len(items)},
            **{"unfamiliar": 1, "items": items[: int(query["n"])] if done else []},
        }
        return 200 if done else 202, document, {}

    def label(self, digest: str, label: str, who: str, **more: Any) -> dict[str, Any]:
        made = {"number": len(self.labels) + 1, "digest": digest, "label": label, "who": who, "at": 2.5}
        self.labels.append(made | {"adapter": None, "request_id": None} | more)
        return self.labels[-1]

    def corrected(self, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        if not self.feedback_on:
            return problem(403, "feedback_off", "this server keeps no feedback")
        label = self.label(digest_of(body), query["label"], query["who"], request_id=query.get("request_id"))
        kept = {word: label[word] for word in ("digest", "label", "who")}
        return 201, {"dataset": "malaria-feedback", "adapter": ADAPTER, "request_id": "r-1", **kept}, {}

    def version(self, name: str, base: str | None) -> dict[str, Any]:
        report: dict[str, Any] = {
            **{"images": 9, "classes": {"a": 9}, "splits": None, "warnings": []},
            **{"duplicates": {"files": 0}, "unreadable": {"files": 0}, "ignored": {"files": 0}},
            "near_duplicates": {"pairs": 0, "across_splits": 0, "across_classes": 0},
        }
        return {
            **{"name": name, "version": 2 if base is None else 3, "digest": digest_of(b"zip"), "size_bytes": 3},
            **{"created_at": "2026-01-02T03:04:05Z", "images": 9, "classes": {"a": 9}, "report": report},
            **{"labelled": len(self.labels), "disputed": [digest_of(b"x")]},
        }
