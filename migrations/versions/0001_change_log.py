"""The change log: changes, document pointers, intents, audit, claims."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

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
_ADVANCE_DOCUMENT = """
CREATE FUNCTION advance_document(
    p_doc text, p_kind text, p_environment text, p_name text, p_written jsonb
) RETURNS documents LANGUAGE plpgsql AS $$
DECLARE
    document documents;
    intent intents;
    found_version record;
    change changes;
    ahead integer;
    last_version integer;
BEGIN
    SELECT * INTO document FROM documents WHERE doc = p_doc FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO documents (
            doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
        ) VALUES (p_doc, p_kind, p_environment, p_name, 0, 0, false, now(), '')
        ON CONFLICT (doc) DO NOTHING;
        SELECT * INTO document FROM documents WHERE doc = p_doc FOR UPDATE;
    END IF;

    SELECT count(*), max(w.version) INTO ahead, last_version
    FROM jsonb_to_recordset(p_written) AS w(version integer)
    WHERE w.version > document.logged_version;
    IF last_version - document.logged_version <> ahead THEN
        RETURN document;
    END IF;

    IF ahead > 0 THEN
        PERFORM pg_advisory_xact_lock(7310011);
        FOR found_version IN
            SELECT w.* FROM jsonb_to_recordset(p_written)
                AS w(version integer, change_id text, at timestamptz, comment text, deleted boolean)
            WHERE w.version > document.logged_version ORDER BY w.version
        LOOP
            SELECT * INTO intent FROM intents
            WHERE id = found_version.change_id AND doc = p_doc
                AND base_version = found_version.version - 1;
            IF FOUND THEN
                change.id := intent.id;
                change.action := intent.action;
                change.actor := intent.actor;
                change.comment := intent.comment;
                change.at := coalesce(found_version.at, intent.at);
            ELSE
                change.id := gen_random_uuid()::text;
                change.action := 'external';
                change.actor := 'external';
                change.comment := found_version.comment;
                change.at := now();
            END IF;
            INSERT INTO changes (
                id, doc, kind, environment, name, version, action, actor, comment, at, deleted
            ) VALUES (
                change.id, p_doc, p_kind, p_environment, p_name, found_version.version,
                change.action, change.actor, change.comment, change.at, found_version.deleted
            ) RETURNING * INTO change;
            INSERT INTO audit (
                actor, action, kind, environment, name, version, revision, request_id
            ) VALUES (
                change.actor, change.action, p_kind, p_environment, p_name, change.version,
                change.revision, intent.request_id
            );
            UPDATE intents
            SET state = 'applied', version = change.version, revision = change.revision
            WHERE id = intent.id AND state IN ('open', 'expired');
        END LOOP;
        UPDATE documents
        SET logged_version = change.version, revision = change.revision, deleted = change.deleted,
            updated_at = change.at, updated_by = change.actor
        WHERE doc = p_doc RETURNING * INTO document;
        PERFORM pg_notify('pilothouse_changes', document.revision::text);
    END IF;

    -- Also when nothing was new: an intent may have been begun on a base already passed.
    UPDATE intents SET state = 'lost'
    WHERE doc = p_doc AND base_version < document.logged_version AND state IN ('open', 'expired');
    RETURN document;
END
$$
"""


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
