"""What Alembic runs for each migration: it uses the connection and the transaction of `store/migrate.py`."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
