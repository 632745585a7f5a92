"""The endpoint of the audit log, as one operation over its pages."""

from __future__ import annotations

from datetime import datetime

from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.operation import Operation
from lensmount_client._http.response import Response
from lensmount_client._types.access import AuditRecord

Page = tuple[list[AuditRecord], str | None]


def audit(
    since: datetime | None, actor: str | None, action: str | None, limit: int | None
) -> Operation[list[AuditRecord]]:
    """All pages, or as many as `limit` needs."""
    wanted = {"since": None if since is None else f"{since.timestamp():.3f}", "actor": actor, "action": action}
    params: dict[str, str | int] = {key: value for key, value in wanted.items() if value is not None}
    records: list[AuditRecord] = []
    after: str | None = None
    while True:
        if after is not None:
            params = {**params, "after": after}
        found, after = yield Call("GET", "/audit", _page, params=params)
        records += found
        if after is None or (limit is not None and len(records) >= limit):
            return records[:limit]


def _page(response: Response) -> Page:
    fields = JsonFields.of(response)
    return [_record(each) for each in fields.children("records")], fields.string_or_none("next")


def _record(fields: JsonFields) -> AuditRecord:
    return AuditRecord(
        time=fields.time("time"),
        actor=fields.string("actor"),
        tenant=fields.string("tenant"),
        action=fields.string("action"),
        target=fields.string_or_none("target"),
        digest=fields.string_or_none("digest"),
        request_id=fields.string("request_id"),
        status=fields.integer("status"),
        count=fields.integer("count"),
    )
