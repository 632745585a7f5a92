"""The endpoints of rollouts: one function each, from arguments to a Call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lensmount_client._api.read_rollouts import report_of
from lensmount_client._errors import AliasNotFound, InvalidInput
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.operation import Operation
from lensmount_client._http.response import Response
from lensmount_client._reference import checked_name, checked_readable, checked_version
from lensmount_client._types.rollouts import RolloutReport

JSON = "application/json"
KEY = re.compile(r"request|client|header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # as the server takes it
FIRST = "Fix: point it at the version that serves, by PUT /adapters/{name}/aliases/{alias}, then start again"
PREPARING_S = 120.0  # a start is answered when the new version is loaded


@dataclass(frozen=True)
class Wanted:
    """A rollout that is to start: `Wanted(canary=8, percent=10)`. Without a percentage a canary gets none."""

    canary: int | None = None
    percent: float | None = None
    key: str = "request"
    shadow: int | None = None
    sample: float = 1.0
    rules: Mapping[str, Any] | None = None

    def body(self, stable: int) -> dict[str, Any]:
        """The body of PUT /adapters/{name}/aliases/{alias}. Raises InvalidInput."""
        body: dict[str, Any] = {"stable": stable}
        if self.canary is not None:
            canary = checked_version(self.canary)
            body["canary"] = {
                "version": canary,
                "percent": _checked_percent(self.percent),
                "key": _checked_key(self.key),
            }
        elif self.percent is not None:
            raise InvalidInput("percent: found no canary for it, expected one. Fix: canary=VERSION (--canary VERSION)")
        if self.shadow is not None:
            body["shadow"] = {"version": checked_version(self.shadow), "sample": _checked_sample(self.sample)}
        if len(body) == 1:
            raise InvalidInput(
                "found neither a canary nor a shadow, expected one of them. Fix: canary=VERSION with percent=10, or "
                "shadow=VERSION (--canary VERSION --percent 10, or --shadow VERSION)"
            )
        if self.rules is not None:
            body["rules"] = dict(self.rules)
        return body


@dataclass(frozen=True)
class _Present:
    """Where an alias points now, and the ETag of that state."""

    version: int
    etag: str


def start(name: str, alias: str, wanted: Wanted) -> Operation[RolloutReport]:
    """Try another version while the alias stays where it is. Nothing is written if it moves meanwhile."""
    wanted.body(1)  # before anything is sent
    try:
        present: _Present = yield _present(name, alias)
    except AliasNotFound as error:
        raise AliasNotFound(replace(error.problem, detail=f"{error.problem.detail} {FIRST}")) from error
    try:
        content = json.dumps(wanted.body(present.version), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"rules: found a value that is not JSON ({error}), expected numbers, true or false"
        ) from error
    headers = {"If-Match": present.etag} if present.etag else {}
    path = _alias_path(name, alias)
    yield Call("PUT", path, _nothing, content=content, content_type=JSON, headers=headers, read_s=PREPARING_S)
    report: RolloutReport = yield status(name, alias)
    return report


def _present(name: str, alias: str) -> Call[_Present]:
    def read(response: Response) -> _Present:
        return _Present(JsonFields.of(response).integer("version"), response.headers.get("etag", ""))

    return Call("GET", _alias_path(name, alias), read)


def status(name: str, alias: str) -> Call[RolloutReport]:
    return Call("GET", _rollout_path(name, alias), lambda response: report_of(JsonFields.of(response)))


def list_rollouts(name: str) -> Call[list[RolloutReport]]:
    def read(response: Response) -> list[RolloutReport]:
        return [report_of(item) for item in JsonFields.of(response).children("rollouts")]

    return Call("GET", f"/adapters/{checked_readable(name)}/rollouts", read)


def end(name: str, alias: str, verb: str) -> Operation[RolloutReport]:
    """`verb` is promote or rollback."""
    yield Call("POST", f"{_rollout_path(name, alias)}/{verb}", _nothing, read_s=PREPARING_S)
    report: RolloutReport = yield status(name, alias)
    return report


def _nothing(response: Response) -> None:
    """The report that is asked for next says it all. Raises UnexpectedResponse for a page of another server."""
    JsonFields.of(response)


def _checked_percent(percent: float | None) -> float:
    if percent is None:
        raise InvalidInput("percent: found none, expected 0 to 100. Fix: percent=10 (--percent 10)")
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise InvalidInput(f"percent: found {percent!r}, expected 0 to 100. Fix: percent=10 (--percent 10)")
    return float(percent)


def _checked_sample(sample: float) -> float:
    if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample <= 1:
        raise InvalidInput(f"sample: found {sample!r}, expected 0 to 1. Fix: sample=0.2 (--sample 0.2)")
    return float(sample)


def _checked_key(key: str) -> str:
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise InvalidInput(
            f"key: found {str(key)[:80]!r}, expected request, client or header:NAME. Fix: key='client' (--key client), "
            "or the header that says whose image it is: key='header:X-Patient' (--key header:X-Patient)"
        )
    return key


def _alias_path(name: str, alias: str) -> str:
    return f"/adapters/{checked_readable(name)}/aliases/{checked_name(alias, 'alias')}"


def _rollout_path(name: str, alias: str) -> str:
    return f"/adapters/{checked_readable(name)}/rollouts/{checked_name(alias, 'alias')}"
