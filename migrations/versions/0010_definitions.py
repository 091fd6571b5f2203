"""Schemas and templates, and intents with a guard. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import CreateSequence

from migrations.stored_functions import stored_function

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

# Two locks of protocol E (docs/protocols.md), always in this order and before any other. 7310015
# is shared by guarded intents, so that none of them is being written while definitions are
# committed. 7310016 is exclusive among intents that are judged with related documents.
_IS_RELATED = stored_function("is_related", revision)
_IS_COVERED = stored_function("is_covered", revision)

# The outcome is `begun`, also with an earlier intent, or `moved` or `open` with nothing written.
_BEGIN = stored_function("begin_intent", revision)
_RESERVE = stored_function("reserve_intent", revision)
# No row if the reservation is lost.
_CONFIRM = stored_function("confirm_intent", revision)

# The outcome is `committed`, or with nothing written `definition` (the edit at moved_place follows
# another version than `moved`), `moved` (by a document, in that revision) or `open`.
_COMMIT = stored_function("commit_definitions", revision)


def _subject() -> tuple[sa.Column[object], ...]:
    return (
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
        "definition_items",
        *_subject(),
        sa.Column("version", sa.Integer, nullable=False),
        *_version(),
        sa.Column("scopes", JSONB, nullable=False),
    )
    op.create_index("definition_items_by_revision", "definition_items", ["revision"])
    op.create_table(
        "definition_versions",
        *_subject(),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        *_version(),
    )
    # Without a default: the release before has no right to the sequence.
    op.execute(CreateSequence(sa.Sequence("intents_seq")))
    op.add_column("intents", sa.Column("seq", sa.BigInteger))
    op.create_index(
        "intents_reserved",
        "intents",
        ["look_after"],
        postgresql_where=sa.text("state = 'reserved'"),
    )
    op.execute(_IS_RELATED)
    op.execute(_IS_COVERED)
    op.execute(_BEGIN)
    op.execute(_RESERVE)
    op.execute(_CONFIRM)
    op.execute(_COMMIT)
