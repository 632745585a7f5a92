"""The rows of adapters: the version that is asked for, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lensmount_service.errors import NotFound, VersionDeleted
from lensmount_service.store.adapter_rows import by_number, existing, needed_digests, rows_of, version_table
from lensmount_service.store.database import Database

if TYPE_CHECKING:
    from tests.service.known_machine import KnownMachine


def add(connection: sa.Connection, name: str, version: int, deleted: bool = False, at: float | None = None) -> None:
    connection.execute(
        version_table.insert().values(
            name=name,
            version=version,
            digest=f"{name}{version}",
            size_bytes=1,
            created_at="",
            deleted=deleted,
            deleted_at=at,
            manifest="{}",
        )
    )


def test_a_row_that_is_live_kept_or_gone_is_found_or_says_why_not(machine: KnownMachine, tmp_path: Path) -> None:
    database = Database(machine.create_tables(tmp_path))
    with database.write() as connection:
        add(connection, "cells", 1)
        add(connection, "cells", 2, deleted=True, at=5.0)
        add(connection, "cells", 3, deleted=True)
        add(connection, "tiles", 1, deleted=True, at=5.0)

    with database.read() as connection:
        assert needed_digests(connection) == {"cells1", "cells2", "tiles1"}
        rows = rows_of(connection, "cells")
        assert by_number("cells", rows, 1).digest == "cells1"
        assert by_number("cells", rows, 2, or_kept=True).digest == "cells2"
        with pytest.raises(VersionDeleted, match="POST /adapters/cells/versions/2/undelete"):
            by_number("cells", rows, 2)
        with pytest.raises(VersionDeleted, match=r"Fix: use another version$"):
            by_number("cells", rows, 3, or_kept=True)
        with pytest.raises(NotFound, match="Did you mean 1, the latest"):
            by_number("cells", rows, 4)
        with pytest.raises(NotFound, match="POST /adapters/tiles/undelete"):
            existing(connection, "tiles")
        assert len(existing(connection, "tiles", or_kept=True)) == 1
    database.close()
