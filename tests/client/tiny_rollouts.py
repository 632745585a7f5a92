"""The rollouts of the tiny server."""

from __future__ import annotations

from typing import Any

from tests.client.wire import problem

RULES = {"errors": 0.02, "uncertain": 2.0, "worse_on_labels": True}
AT = "2026-01-02T03:04:05Z"
Answer = tuple[int, Any, dict[str, str]]


def side(version: int, requests: int, **changes: Any) -> dict[str, Any]:
    return {
        **{"version": version, "requests": requests, "images": 2 * requests, "errors": {}, "not_finite": 0},
        **{"decisions": {"accept": requests, "uncertain": requests}, "p50_ms": 12.5, "p99_ms": 40.0},
        **{"labels": {"cat": requests, "dog": requests}},
        **changes,
    }


COMPARED = {
    **{"images": 200, "agreement": 0.985, "confusion": {"labels": ["cat", "dog"], "counts": [[120, 1], [2, 77]]}},
    **{"mean_change_of_scores": 0.0125, "shed": 4, "failed": 0},
}
LABELLED = {
    "images": 120,
    "stable": {"accuracy": 0.95, "ece": 0.021, "brier": 0.08},
    "candidate": {"accuracy": 0.85, "ece": 0.052, "brier": 0.16},
    **{"only_stable_right": 14, "only_candidate_right": 2},
    **{"mcnemar_p": 0.00418, "sequential_p_accuracy": 0.0097, "sequential_p_brier": 0.4},
}


class TinyRollouts:
    """Keeps one rollout an alias, in the form of the real server; `looks` is how many reports it gives until it ends
    by itself.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}
        self.sent: list[tuple[dict[str, Any], str | None]] = []  # bodies of starts, with their If-Match
        self.looks: int | None = None
        self.changes: dict[str, Any] = {}  # of the next reports

    def start(self, name: str, alias: str, body: dict[str, Any], if_match: str | None) -> None:
        self.sent.append((body, if_match))
        rollout = {
            **{"id": "r1", "canary": None, "shadow": None, "started_at": AT, "started_by": "reader1", "ready": True},
            **body,
            "rules": RULES | body.get("rules", {}),
        }
        event = {"at": AT, "actor": "reader1", "what": "started", "evidence": {"stable": body["stable"]}}
        self.kept[name, alias] = {"name": name, "alias": alias, "rollout": rollout, "events": [event]}

    def answer(self, method: str, name: str, where: list[str], aliases: dict[str, int]) -> Answer:
        """Of /adapters/{name}/rollouts and what is below it."""
        match method, where:
            case "GET", []:
                return 200, {"rollouts": [self.report(*key) for key in self.kept if key[0] == name]}, {}
            case _, [alias, *_] if (name, alias) not in self.kept:
                return problem(404, "rollout_not_found", f"found no rollout of {name}:{alias}")
            case "GET", [alias]:
                if self.looks is not None:
                    self.looks -= 1
                    if self.looks < 1:
                        evidence = {"rule": "errors", "found": 0.5, "expected": "at most 0.02"}
                        self.end(name, alias, "rolled_back", None, evidence)
                return 200, self.report(name, alias), {}
        alias, verb = where
        rollout = self.kept[name, alias]["rollout"]
        if rollout is not None:
            if verb == "promote":
                aliases[alias] = (rollout["canary"] or rollout["shadow"])["version"]
            self.end(name, alias, {"promote": "promoted", "rollback": "rolled_back"}[verb], "reader1", None)
        return 200, {"name": name, "alias": alias, "version": aliases[alias]}, {}

    def of(self, name: str) -> dict[str, Any]:
        """The present rollouts of an adapter, by alias."""
        found = {alias: kept["rollout"] for (adapter, alias), kept in self.kept.items() if adapter == name}
        return {alias: rollout for alias, rollout in found.items() if rollout}

    def end(self, name: str, alias: str, what: str, actor: str | None, evidence: Any) -> None:
        kept = self.kept[name, alias]
        kept["rollout"] = None
        kept["events"].insert(0, {"at": AT, "actor": actor, "what": what, "evidence": evidence})

    def report(self, name: str, alias: str) -> dict[str, Any]:
        kept = self.kept[name, alias]
        return {
            **{"sides": {}, "share": None, "without_key": 0, "compared": None, "labelled": None, "findings": []},
            **kept,
            **self.changes,
        }
