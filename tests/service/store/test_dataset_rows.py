"""The rows of datasets: the version that is asked for, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lensmount_service.errors import NotFound, VersionDeleted
from lensmount_service.store.database import Database
from lensmount_service.store.dataset_rows import dataset_table, needed_digests, rows_of, version_by

if TYPE_CHECKING:
    from tests.service.known_machine import KnownMachine


def add(connection: sa.Connection, version: int, deleted: bool = False) -> None:
    connection.execute(
        dataset_table.insert().values(
            name="cells",
            version=version,
            digest=f"d{version}",
            size_bytes=1,
            created_at="",
            deleted=deleted,
            images=2,
            classes={"a": 2},
            report={},
            source_digest="s",
            source_bytes=1,
        )
    )


def test_a_live_version_is_found_and_others_say_why_not(machine: KnownMachine, tmp_path: Path) -> None:
    database = Database(machine.create_tables(tmp_path))
    with database.write() as connection:
        add(connection, 1, deleted=True)
        add(connection, 2)

    with database.read() as connection:
        rows = rows_of(connection, "cells")
        assert version_by(connection, "cells", rows, "version", 2).digest == "d2"
        assert needed_digests(connection) == {"d2"}
        with pytest.raises(VersionDeleted, match="was deleted"):
            version_by(connection, "cells", rows, "version", 1)
        with pytest.raises(NotFound, match="Did you mean 2, the latest"):
            version_by(connection, "cells", rows, "version", 3)
    database.close()
