"""Intents that are decided, by their age. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_index(
        "intents_decided_by_time",
        "intents",
        ["at"],
        postgresql_where=sa.text("state IN ('applied', 'lost')"),
    )
