"""Moves a database from one schema to another, forward or back. Each step is one file in `migrations/versions`.

The caller's transaction holds all steps, so a process that dies inside one leaves the schema as it was.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

_FOLDER = Path(__file__).with_name("migrations")


def newest_schema() -> int:
    """The schema that this version works with: the highest number of a file `schema_NUMBER.py`."""
    return max(int(path.stem.removeprefix("schema_")) for path in (_FOLDER / "versions").glob("schema_*.py"))


def migrate(connection: sa.Connection, target: int) -> None:
    """Run every step between the schema of the database and `target`, from 1 to `newest_schema()`.

    A database from before Alembic names no step. It runs all of them, and the first three create only what is missing.
    """
    from alembic import command  # takes 0.3 s, and most starts need no migration
    from alembic.config import Config
    from alembic.migration import MigrationContext

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and int(present) > target:
        command.downgrade(config, str(target))
    else:
        command.upgrade(config, str(target))
