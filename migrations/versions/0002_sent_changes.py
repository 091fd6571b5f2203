"""When a change was logged and sent, and how far the log is trimmed. Adds only: old code runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    # The default spares a rewrite of the table: all present rows share the moment of this step.
    op.add_column(
        "changes",
        sa.Column(
            "logged_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.add_column("changes", sa.Column("sent_at", sa.DateTime(timezone=True)))
    op.create_index(
        "changes_unsent", "changes", ["revision"], postgresql_where=sa.text("sent_at IS NULL")
    )
    op.create_table(
        "horizon",
        sa.Column(
            "id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False
        ),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO horizon VALUES (1, 0)")
