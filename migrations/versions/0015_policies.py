"""Policies: what is written knows the newest of them. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op

from migrations.stored_functions import stored_function

revision = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0010, but a policy that was changed since sends a writer back like a schema.
_BEGIN = stored_function("begin_intent", revision)
# The outcome may also be `policies`, with nothing written: one was changed after p_policies_at,
# which has a default, so that the release before continues to call.
_COMMIT = stored_function("commit_definitions", revision)
_NEWEST = stored_function("newest_policy_change", revision)
_COMMIT_FLAGS = stored_function("commit_flags_under_policies", revision)
_CONFIRM = stored_function("confirm_intent_under_policies", revision)


def upgrade() -> None:
    op.create_index(
        "audit_bypasses",
        "audit",
        ["seq"],
        postgresql_where=sa.text("facts -> 'bypass_reason' IS NOT NULL"),
    )
    op.execute(_NEWEST)
    op.execute(_BEGIN)
    op.execute("DROP FUNCTION commit_definitions(jsonb, bigint, jsonb, text, text, text, text)")
    op.execute(_COMMIT)
    op.execute(_COMMIT_FLAGS)
    op.execute(_CONFIRM)
