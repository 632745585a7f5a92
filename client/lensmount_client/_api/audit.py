"""The endpoint of the audit log: one page of it, and all pages as one operation."""

from __future__ import annotations

from datetime import datetime

from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.operation import Operation
from lensmount_client._http.response import Response
from lensmount_client._types.access import AuditPage, AuditRecord


def audit(
    since: datetime | None, actor: str | None, action: str | None, limit: int | None
) -> Operation[list[AuditRecord]]:
    """All pages, or as many as `limit` needs."""
    records: list[AuditRecord] = []
    after: str | None = None
    while True:
        page: AuditPage = yield audit_page(since, after, actor, action)
        records += page.records
        after = page.next
        if after is None or (limit is not None and len(records) >= limit):
            return records[:limit]


def audit_page(
    since: datetime | None, after: str | None, actor: str | None = None, action: str | None = None
) -> Call[AuditPage]:
    """What follows the end of a page, or begins at a time."""

    def read(response: Response) -> AuditPage:
        fields = JsonFields.of(response)
        records = tuple(_record(each) for each in fields.children("records"))
        following = fields.string_or_none("next")
        return AuditPage(records, following, fields.string_or_none("end") or following)

    began = None if since is None else f"{since.timestamp():.3f}"
    wanted = {"since": began, "actor": actor, "action": action, "after": after}
    return Call("GET", "/audit", read, params={key: value for key, value in wanted.items() if value is not None})


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
