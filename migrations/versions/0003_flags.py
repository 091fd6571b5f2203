"""Flags and segments with every version they had, and what was counted of them. Adds only."""

import sqlalchemy as sa
from alembic import op

from migrations.stored_functions import stored_function

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

# One round trip for all edits of one environment. The outcome is `committed`, `moved` (then
# last_revision is the set's) or `taken`; nothing is written unless it is `committed`.
#
# Two locks, in the same order as in advance_document. The set's row makes the writers of one
# environment take turns. The advisory lock is held from the first revision to the commit, and
# everybody waits for it: versions are found before, and a row per edit is all that is left to do.
# Whoever takes a revision holds it, so that those taken here have no others between them.
#
# Planned anew at each call: a plan made while the tables were small would read them whole when
# they no longer are.
_COMMIT_FLAGS = stored_function("commit_flags", revision)


def _item() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("environment", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
    )


def _version() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )


def upgrade() -> None:
    op.create_table(
        "flag_items", *_item(), sa.Column("version", sa.Integer, nullable=False), *_version()
    )
    op.create_index("flag_items_by_revision", "flag_items", ["revision"])
    op.create_table(
        "flag_versions",
        *_item(),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        *_version(),
    )
    op.create_index("flag_versions_by_revision", "flag_versions", ["revision"])
    op.create_table(
        "flag_sets",
        sa.Column("environment", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "flag_requests",
        sa.Column("idempotency_key", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("first_revision", sa.BigInteger, nullable=False),
        sa.Column("last_revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "flag_usage",
        sa.Column("environment", sa.Text, primary_key=True),
        sa.Column("flag", sa.Text, primary_key=True),
        sa.Column("variant", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("last_evaluated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute(_COMMIT_FLAGS)
