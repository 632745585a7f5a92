"""One job as the server describes it, its events, and a stream of events as a response."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx

from lensmount_client import JobEvent

JOB_ID = "ab" + "0" * 30
DOCUMENT: dict[str, Any] = {
    "id": JOB_ID,
    "state": "running",
    "dataset": {"name": "pets", "version": 1, "digest": "sha256:0"},
    "adapter": "cats",
    "alias": None,
    "hyper_parameters": {},
    "priority": 0,
    "attempt": 1,
    "max_attempts": 3,
    "created_at": "2026-01-02T03:04:05Z",
    "started_at": None,
    "finished_at": None,
    "cancel_requested": False,
    "progress": None,
    "history": [],
    "result": None,
    "error": None,
}
END = ("end", {"state": "succeeded"})


def kinds(events: Sequence[JobEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


WHOLE_STORY = [
    *("JobState", "JobState", "JobLog", "JobProgress", "JobEpoch", "JobLog", "JobEpoch", "JobProgress", "JobEpoch"),
    *("JobState", "JobEnd"),
]


def stream(*events: tuple[str, Any]) -> httpx.Response:
    text = "".join(f"id: {n}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for n, (kind, data) in enumerate(events, 1))
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})
