"""The tokens of the tiny server."""

from __future__ import annotations

import json
from typing import Any

from tests.client.wire import problem

NO_LIMITS = dict.fromkeys(
    ("requests_per_minute", "pixels_per_minute", "bytes_per_minute", "stored_bytes", "queued_jobs", "queue_share")
)


class TinyTokens:
    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.audited: list[dict[str, str]] = []
        self.broken_after: str | None = None  # the page behind this end is refused

    def audit(self, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        """Three pages of one record each."""
        self.audited.append(query)
        if self.broken_after is not None and query.get("after") == self.broken_after:
            return problem(410, "audit_gone", "found the end of a page whose file is no longer kept")
        record = {
            **{"time": "2026-01-02T03:04:05Z", "actor": "reader1", "tenant": "lab", "action": "PUT /adapters/{name}"},
            **{"target": "=1", "digest": None, "request_id": "r", "status": 201, "count": 1},
        }
        after = {None: "1:1", "1:1": "1:2"}.get(query.get("after"))
        return 200, {"records": [record], "next": after}, {}

    def answer(
        self, method: str, where: list[str], query: dict[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        self.asked.append((method, query))
        match method, where:
            case "POST", []:
                wanted = json.loads(body)
                if wanted["name"] in self.tokens:
                    return problem(422, "token_exists", "found a valid token of this name")
                self.tokens[wanted["name"]] = {
                    **{"name": wanted["name"], "tenant": wanted["tenant"] or "default", "scopes": wanted["scopes"]},
                    **{"created_at": "2026-01-02T03:04:05Z", "quotas": NO_LIMITS | wanted["quotas"]},
                    "expires_at": "2026-04-02T03:04:05Z" if wanted["lifetime_s"] else None,
                }
                return 201, self.tokens[wanted["name"]] | {"secret": "lm_first"}, {}
            case "GET", []:
                return 200, {"tokens": list(self.tokens.values())}, {}
            case _, [name, *_] if name not in self.tokens:
                return problem(404, "token_not_found", f"no token is called {name}")
            case "POST", [name, "rotate"]:
                return 200, self.tokens[name] | {"secret": "lm_second"}, {}
        del self.tokens[where[0]]
        return 204, b"", {}


WHOAMI = {
    **{
        "actor": "reader1",
        "tenant": "lab",
        "scopes": ["predict"],
        "operator": False,
        "expires_at": "2026-04-02T03:04:05Z",
    },
    **{"quotas": NO_LIMITS | {"requests_per_minute": 60}, "used": {"requests_per_minute": 12.0}},
}
