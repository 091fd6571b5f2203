"""Deliveries of webhooks. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op

from migrations.stored_functions import stored_function

revision = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

_ADD_ATTEMPTS = stored_function("add_webhook_attempts", revision)
# All columns are null, and nothing is written, if another owner has the lease.
_RECORD = stored_function("record_webhook_round", revision)


def upgrade() -> None:
    _create_cursors()
    _create_deliveries()
    _create_attempts()
    op.execute(_ADD_ATTEMPTS)
    op.execute(_RECORD)


def _create_cursors() -> None:
    op.create_table(
        "webhook_cursors",
        sa.Column("webhook", sa.Text, primary_key=True),
        sa.Column("cursor", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempted", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("gaps", sa.Integer, nullable=False, server_default="0"),
    )


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dead_at", sa.DateTime(timezone=True)),
        sa.Column("status", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index(
        "webhook_deliveries_waiting",
        "webhook_deliveries",
        ["webhook", "entity", "revision", "id"],
        postgresql_where=sa.text("dead_at IS NULL"),
    )
    op.create_index(
        "webhook_deliveries_dead",
        "webhook_deliveries",
        ["webhook", "revision", "id"],
        postgresql_where=sa.text("dead_at IS NOT NULL"),
    )


def _create_attempts() -> None:
    op.create_table(
        "webhook_attempts",
        sa.Column("webhook", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
