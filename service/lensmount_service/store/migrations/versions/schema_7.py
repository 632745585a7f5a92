"""Schema 7: the rollouts of aliases, and what became of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    op.add_column("aliases", sa.Column("rollout", sa.Text))
    op.create_table(
        "rollout_events",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("rollout", sa.String(32), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.String(64)),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
    )
    op.create_index("ix_rollout_events_alias", "rollout_events", ["name", "alias"])


def downgrade() -> None:
    """Rollouts end: the stable version of each alias answers."""
    op.drop_index("ix_rollout_events_alias", "rollout_events")
    op.drop_table("rollout_events")
    op.drop_column("aliases", "rollout")
