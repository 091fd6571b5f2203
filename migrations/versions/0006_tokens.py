"""Tokens. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

# The advisory lock as late as possible (see advance_document): who revokes has the token's row
# already, so that those who revoke one token take turns.
_LOG = """
CREATE FUNCTION log_token(
    p_token tokens, p_version integer, p_action text, p_actor text, p_request_id text,
    p_source text, p_facts jsonb
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    taken bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7310011);
    taken := nextval('changes_revision');
    INSERT INTO changes (
        revision, id, doc, kind, environment, name, version, action, actor, comment, at, deleted
    ) VALUES (
        taken, gen_random_uuid()::text, 'tokens/' || p_token.id, 'token', 'default', p_token.id,
        p_version, p_action, p_actor, '', now(), p_action = 'deleted'
    );
    INSERT INTO documents (
        doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
    ) VALUES (
        'tokens/' || p_token.id, 'token', 'default', p_token.id, p_version, taken,
        p_action = 'deleted', now(), p_actor
    )
    ON CONFLICT (doc) DO UPDATE SET
        logged_version = excluded.logged_version, revision = excluded.revision,
        deleted = excluded.deleted, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by;
    INSERT INTO audit (
        actor, action, kind, environment, name, version, revision, request_id, source, facts
    ) VALUES (
        p_actor, p_action, 'token', 'default', p_token.id, p_version, taken, p_request_id,
        p_source, p_facts
    );
    PERFORM pg_notify('pilothouse_changes', taken::text);
    RETURN taken;
END
$$
"""

_CREATE = """
CREATE FUNCTION create_token(
    p_token jsonb, p_actor text, p_request_id text, p_source text, p_facts jsonb
) RETURNS tokens LANGUAGE plpgsql AS $$
DECLARE
    made tokens;
BEGIN
    made := jsonb_populate_record(NULL::tokens, p_token);
    made.created_at := now();
    made.revision := log_token(made, 1, 'created', p_actor, p_request_id, p_source, p_facts);
    INSERT INTO tokens SELECT made.*;
    RETURN made;
END
$$
"""

# All columns are null if there is no such token. One that is revoked stays as it is.
_REVOKE = """
CREATE FUNCTION revoke_token(p_id text, p_actor text, p_request_id text, p_source text)
RETURNS tokens LANGUAGE plpgsql AS $$
DECLARE
    found tokens;
BEGIN
    SELECT * INTO found FROM tokens WHERE id = p_id FOR UPDATE;
    IF found.id IS NULL OR found.revoked_at IS NOT NULL THEN
        RETURN found;
    END IF;
    found.revoked_at := now();
    found.revision := log_token(
        found, 2, 'deleted', p_actor, p_request_id, p_source,
        jsonb_build_object('name', found.name, 'class', found.token_class)
    );
    UPDATE tokens SET revoked_at = found.revoked_at, revision = found.revision WHERE id = p_id;
    RETURN found;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token_class", sa.Text, nullable=False),
        sa.Column("environments", ARRAY(sa.Text), nullable=False),
        sa.Column("services", ARRAY(sa.Text), nullable=False),
        sa.Column("roles", ARRAY(sa.Text), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("tokens_by_revision", "tokens", ["revision"])
    op.create_index("tokens_by_time", "tokens", ["created_at", "id"])
    op.execute(_LOG)
    op.execute(_CREATE)
    op.execute(_REVOKE)
