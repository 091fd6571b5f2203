"""Silent instances that an operator has released. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("released_at", sa.DateTime(timezone=True)))
