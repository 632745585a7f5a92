from __future__ import annotations

from lensmount_service.access.audit import Record
from lensmount_service.web.audit_schemas import AuditRecord


def test_an_answer_has_the_fields_of_a_record() -> None:
    assert AuditRecord.model_fields.keys() == Record.__dataclass_fields__.keys()
