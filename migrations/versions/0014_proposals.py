"""Proposals. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.stored_functions import stored_function

revision = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None

# The outcome is `committed`, or with nothing written `repeated` (the idempotency key belongs to the
# proposal `earlier`), `full` or `moved`.
_COMMIT = stored_function("commit_proposal", revision)


def upgrade() -> None:
    op.create_table(
        "proposals",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False, unique=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("environments", ARRAY(sa.Text), nullable=False),
        sa.Column("apply_at", sa.DateTime(timezone=True)),
        sa.Column("document", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("idempotency_key", sa.Text, unique=True),
        sa.Column("digest", sa.Text),
    )
    op.create_index("proposals_open", "proposals", ["state"], postgresql_where=sa.text("is_open"))
    op.execute(_COMMIT)
