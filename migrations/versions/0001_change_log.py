"""The change log: changes, document pointers, intents, audit, claims."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.stored_functions import stored_function

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

_UNDECIDED = sa.text("state IN ('open', 'expired')")

# One round trip for step 3 of a configuration write. The caller tells a gap by the returned
# logged_version being lower than the last version it gave.
#
# Two locks, always in this order. The document's row makes the writers of one document take turns.
# The advisory lock (LOG_LOCK in app/postgres/locks.py; every writer of `changes` takes it) is held
# from the first revision to the commit, so that commit order is revision order and a reader of
# `revision > last` loses nothing; it comes as late as possible because everybody waits for it.
_ADVANCE_DOCUMENT = stored_function("advance_document", revision)


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("changes_revision")))
    op.create_table(
        "changes",
        sa.Column(
            "revision",
            sa.BigInteger,
            primary_key=True,
            server_default=sa.text("nextval('changes_revision')"),
        ),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("doc", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("facts", JSONB),
        sa.UniqueConstraint("doc", "version"),
    )
    op.create_index("changes_by_environment", "changes", ["environment", "revision"])
    op.create_index("changes_by_kind", "changes", ["kind", "revision"])
    op.create_index("changes_by_name", "changes", ["name", "revision"])
    op.create_index("changes_by_time", "changes", ["at"])
    op.create_table(
        "documents",
        sa.Column("doc", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("logged_version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Text, nullable=False),
    )
    op.create_table(
        "intents",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("doc", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("base_version", sa.Integer, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("idempotency_key", sa.Text, unique=True),
        sa.Column("digest", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("revision", sa.BigInteger),
        sa.Column("looks", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("look_after", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index(
        "intents_undecided_by_look", "intents", ["look_after"], postgresql_where=_UNDECIDED
    )
    op.create_index(
        "intents_undecided_by_doc", "intents", ["doc", "base_version"], postgresql_where=_UNDECIDED
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("revision", sa.BigInteger),
        sa.Column("request_id", sa.Text),
        sa.Column("facts", JSONB),
    )
    op.create_index("audit_by_time", "audit", ["at"])
    op.create_table(
        "claims",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute(_ADVANCE_DOCUMENT)
