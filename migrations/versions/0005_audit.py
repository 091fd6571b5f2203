"""The audit as a chain of rows that only grows, and where each came from.

Adds only: the release before runs on, and what it writes is chained too.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

# The hash of a row, as in app/hash_chain.py: `length:text` of each field, `-` where it is null.
_AUDIT_LINK = """
CREATE FUNCTION audit_link(p_previous bytea, p_row audit) RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
DECLARE
    told text := '';
    field text;
BEGIN
    FOREACH field IN ARRAY ARRAY[
        p_row.seq::text, round(extract(epoch FROM p_row.at) * 1000000)::bigint::text,
        p_row.actor, p_row.action, p_row.kind, p_row.environment, p_row.name,
        p_row.version::text, p_row.revision::text, p_row.request_id, p_row.source,
        p_row.facts::text
    ] LOOP
        told := told || coalesce(octet_length(convert_to(field, 'UTF8')) || ':' || field, '-');
    END LOOP;
    RETURN sha256(p_previous || convert_to(told, 'UTF8'));
END
$$
"""

# Everybody takes the lock of the head last: after the document's row (or the set's, or the
# instances') and LOG_LOCK, and waits for nothing else before he commits.
#
# The rows of one transaction follow each other, and the head is moved once for all when it commits:
# moved with each row, it would leave a dead one behind each time, to be passed over by the next.
# As its owner, so that who writes rows need not be able to write the head.
_AUDIT_CHAIN = """
CREATE FUNCTION audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    head audit_head;
    last record;
BEGIN
    SELECT * INTO head FROM audit_head FOR UPDATE;
    SELECT seq, hash INTO last FROM audit ORDER BY seq DESC LIMIT 1;
    IF last.seq > head.seq THEN
        head.seq := last.seq;
        head.hash := last.hash;
    END IF;
    NEW.seq := head.seq + 1;
    NEW.previous := head.hash;
    NEW.hash := audit_link(head.hash, NEW);
    RETURN NEW;
END
$$
"""
_AUDIT_HEAD = """
CREATE FUNCTION audit_move_head() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    UPDATE audit_head SET seq = last.seq, hash = last.hash
    FROM (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) last
    WHERE last.seq > audit_head.seq;
    RETURN NULL;
END
$$
"""
_REFUSE = """
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$
"""
_CHAIN_WHAT_IS_THERE = """
DO $$
DECLARE
    present audit;
    head audit_head;
BEGIN
    head := ROW(1, 0, decode(repeat('00', 32), 'hex'));
    FOR present IN SELECT * FROM audit ORDER BY id LOOP
        head.seq := head.seq + 1;
        present.seq := head.seq;
        UPDATE audit
        SET seq = head.seq, previous = head.hash, hash = audit_link(head.hash, present)
        WHERE id = present.id RETURNING hash INTO head.hash;
    END LOOP;
    INSERT INTO audit_head VALUES (head.*);
END
$$
"""
_TRIGGERS = (
    "CREATE TRIGGER audit_chain BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_chain()",
    (
        "CREATE CONSTRAINT TRIGGER audit_move_head AFTER INSERT ON audit"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_move_head()"
    ),
    (
        "CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    ),
    (
        "CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_heads"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    ),
    # Or who may make tables could call what runs as the owner from a trigger of his own.
    "REVOKE EXECUTE ON FUNCTION audit_chain(), audit_move_head() FROM PUBLIC",
)

# What follows is as in 0001, 0003 and 0004, but for what it hands to the audit. A parameter that is
# new has a default, so that the release before goes on calling.
_ADVANCE_DOCUMENT = """
CREATE OR REPLACE FUNCTION advance_document(
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
                actor, action, kind, environment, name, version, revision, request_id, source,
                facts
            ) VALUES (
                change.actor, change.action, p_kind, p_environment, p_name, change.version,
                change.revision, intent.request_id, intent.source, intent.facts
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
_COMMIT_FLAGS = """
CREATE FUNCTION commit_flags(
    p_environment text, p_base bigint, p_edits jsonb, p_actor text, p_comment text,
    p_request_id text, p_idempotency_key text, p_digest text, p_source text DEFAULT NULL,
    OUT outcome text, OUT last_revision bigint, OUT moment timestamptz,
    OUT versions integer[], OUT created timestamptz[]
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    written flag_versions[];  -- their revisions count from 1 until they are known
    before bigint;
BEGIN
    moment := now();
    SELECT s.revision INTO last_revision FROM flag_sets s
    WHERE s.environment = p_environment FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO flag_sets (environment, revision) VALUES (p_environment, 0)
        ON CONFLICT (environment) DO NOTHING;
        SELECT s.revision INTO last_revision FROM flag_sets s
        WHERE s.environment = p_environment FOR UPDATE;
    END IF;

    -- First, so that who repeats a request hears of it though the set has moved by that request.
    PERFORM FROM flag_requests r
    WHERE r.idempotency_key = p_idempotency_key AND r.at > moment - interval '24 hours';
    IF FOUND THEN
        outcome := 'taken';
        RETURN;
    END IF;
    IF last_revision <> p_base THEN
        outcome := 'moved';
        RETURN;
    END IF;

    SELECT
        array_agg(
            ROW(
                p_environment, e.kind, e.name, coalesce(i.version, 0) + e.step, e.definition,
                e.action, p_actor, p_comment, moment, coalesce(i.created_at, moment), e.place
            )::flag_versions ORDER BY e.place
        ),
        array_agg((coalesce(i.version, 0) + e.step)::integer ORDER BY e.place),
        array_agg(coalesce(i.created_at, moment) ORDER BY e.place)
    INTO written, versions, created
    FROM (
        SELECT
            given.edit ->> 'kind' AS kind, given.edit ->> 'name' AS name,
            given.edit ->> 'definition' AS definition, given.edit ->> 'action' AS action,
            given.place,
            row_number() OVER (
                PARTITION BY given.edit ->> 'kind', given.edit ->> 'name' ORDER BY given.place
            ) AS step
        FROM jsonb_array_elements(p_edits) WITH ORDINALITY AS given (edit, place)
    ) e
    LEFT JOIN flag_items i
        ON i.environment = p_environment AND i.kind = e.kind AND i.name = e.name;

    PERFORM pg_advisory_xact_lock(7310011);
    SELECT min(taken.revision) - 1, max(taken.revision) INTO before, last_revision
    FROM (
        SELECT nextval('changes_revision') AS revision
        FROM generate_series(1, cardinality(written))
    ) taken;
    IF p_idempotency_key IS NOT NULL THEN
        INSERT INTO flag_requests AS r (
            idempotency_key, digest, at, environment, first_revision, last_revision
        ) VALUES (
            p_idempotency_key, p_digest, moment, p_environment,
            coalesce(before + 1, 0), coalesce(commit_flags.last_revision, 0)
        )
        ON CONFLICT (idempotency_key) DO UPDATE SET
            digest = excluded.digest, at = excluded.at, environment = excluded.environment,
            first_revision = excluded.first_revision, last_revision = excluded.last_revision
        WHERE r.at <= excluded.at - interval '24 hours';
        IF NOT FOUND THEN  -- by a commit of another environment that was as quick
            outcome := 'taken';
            RETURN;
        END IF;
    END IF;
    outcome := 'committed';
    IF before IS NULL THEN
        RETURN;
    END IF;

    INSERT INTO changes (
        revision, id, doc, kind, environment, name, version, action, actor, comment, at, deleted
    )
    SELECT
        before + w.revision, gen_random_uuid()::text,
        w.kind || 's/' || w.environment || '/' || w.name, w.kind, w.environment, w.name,
        w.version, w.action, w.actor, w.comment, w.at, w.action = 'deleted'
    FROM unnest(written) AS w;
    INSERT INTO flag_versions (
        environment, kind, name, version, definition, action, actor, comment, at, created_at,
        revision
    )
    SELECT
        w.environment, w.kind, w.name, w.version, w.definition, w.action, w.actor, w.comment, w.at,
        w.created_at, before + w.revision
    FROM unnest(written) AS w;
    INSERT INTO flag_items (
        environment, kind, name, version, definition, action, actor, comment, at, created_at,
        revision
    )
    SELECT DISTINCT ON (w.kind, w.name)
        w.environment, w.kind, w.name, w.version, w.definition, w.action, w.actor, w.comment, w.at,
        w.created_at, before + w.revision
    FROM unnest(written) AS w ORDER BY w.kind, w.name, w.version DESC
    ON CONFLICT (environment, kind, name) DO UPDATE SET
        version = excluded.version, definition = excluded.definition, action = excluded.action,
        actor = excluded.actor, comment = excluded.comment, at = excluded.at,
        revision = excluded.revision;
    INSERT INTO documents (
        doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
    )
    SELECT DISTINCT ON (w.kind, w.name)
        w.kind || 's/' || w.environment || '/' || w.name, w.kind, w.environment, w.name, w.version,
        before + w.revision, w.action = 'deleted', w.at, w.actor
    FROM unnest(written) AS w ORDER BY w.kind, w.name, w.version DESC
    ON CONFLICT (doc) DO UPDATE SET
        logged_version = excluded.logged_version, revision = excluded.revision,
        deleted = excluded.deleted, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by;
    INSERT INTO audit (
        actor, action, kind, environment, name, version, revision, request_id, source, facts
    )
    SELECT
        w.actor, w.action, w.kind, w.environment, w.name, w.version, before + w.revision,
        p_request_id, p_source, p_edits -> (w.revision - 1)::integer -> 'facts'
    FROM unnest(written) AS w ORDER BY w.revision;
    UPDATE flag_sets SET revision = commit_flags.last_revision WHERE environment = p_environment;
    PERFORM pg_notify('pilothouse_changes', last_revision::text);
END
$$
"""
_LOG_INSTANCES = """
CREATE FUNCTION log_instances(
    p_moved instances[], p_action text, p_actor text, p_request_id text,
    p_source text DEFAULT NULL
) RETURNS SETOF instances LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    before bigint;
    last_revision bigint;
BEGIN
    IF cardinality(p_moved) = 0 THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7310011);
    SELECT min(taken.revision) - 1, max(taken.revision) INTO before, last_revision
    FROM (
        SELECT nextval('changes_revision') AS revision
        FROM generate_series(1, cardinality(p_moved))
    ) taken;
    INSERT INTO changes (
        revision, id, doc, kind, environment, name, version, action, actor, comment, at, deleted
    )
    SELECT
        before + m.ordinality, gen_random_uuid()::text,
        'instances/' || m.service || '/' || m.instance_id, 'instance', 'default',
        m.service || '/' || m.instance_id, m.version + 1, p_action, p_actor, '', now(),
        p_action = 'deleted'
    FROM unnest(p_moved) WITH ORDINALITY AS m;
    -- Of what is registered: a health that moves changes nothing of that.
    INSERT INTO audit (
        actor, action, kind, environment, name, version, revision, request_id, source, facts
    )
    SELECT
        p_actor, p_action, 'instance', 'default', m.service || '/' || m.instance_id,
        m.version + 1, before + m.ordinality, p_request_id, p_source,
        CASE WHEN m.fingerprint IS DISTINCT FROM i.fingerprint OR p_action = 'deleted' THEN
            jsonb_build_object(
                'before', CASE i.state WHEN 'registered' THEN i.fingerprint END,
                'after', CASE p_action WHEN 'deleted' THEN NULL ELSE m.fingerprint END
            )
        END
    FROM unnest(p_moved) WITH ORDINALITY AS m
    LEFT JOIN instances i ON i.service = m.service AND i.instance_id = m.instance_id
    ORDER BY m.ordinality;
    INSERT INTO documents (
        doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
    )
    SELECT
        'instances/' || m.service || '/' || m.instance_id, 'instance', 'default',
        m.service || '/' || m.instance_id, m.version + 1, before + m.ordinality,
        p_action = 'deleted', now(), p_actor
    FROM unnest(p_moved) WITH ORDINALITY AS m
    ON CONFLICT (doc) DO UPDATE SET
        logged_version = excluded.logged_version, revision = excluded.revision,
        deleted = excluded.deleted, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by;
    PERFORM pg_notify('pilothouse_changes', last_revision::text);
    RETURN QUERY
        INSERT INTO instances AS i
        SELECT
            m.service, m.instance_id, m.epoch, m.term, m.state, m.health, m.owner, m.definition,
            m.lease, m.ttl_seconds, m.registered_at, m.heartbeat_at, m.claimed_at,
            m.draining_until, m.version + 1, before + m.ordinality, now(), m.fingerprint
        FROM unnest(p_moved) WITH ORDINALITY AS m
        ON CONFLICT (service, instance_id) DO UPDATE SET
            epoch = excluded.epoch, term = excluded.term, state = excluded.state,
            health = excluded.health, owner = excluded.owner, definition = excluded.definition,
            lease = excluded.lease, ttl_seconds = excluded.ttl_seconds,
            registered_at = excluded.registered_at, heartbeat_at = excluded.heartbeat_at,
            claimed_at = excluded.claimed_at, draining_until = excluded.draining_until,
            version = excluded.version, revision = excluded.revision, moved_at = excluded.moved_at,
            fingerprint = excluded.fingerprint
        RETURNING i.*;
END
$$
"""
_REGISTER_INSTANCE = """
CREATE FUNCTION register_instance(
    p_service text, p_instance_id text, p_definition text, p_lease text,
    p_ttl_seconds double precision, p_owner text, p_actor text, p_request_id text,
    p_at_most integer, p_source text DEFAULT NULL, p_fingerprint text DEFAULT NULL,
    OUT outcome text, OUT made instances
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7310014, hashtext(p_service));
    SELECT * INTO made FROM instances
    WHERE service = p_service AND instance_id = p_instance_id FOR UPDATE;
    IF NOT FOUND THEN
        SELECT coalesce(max(d.logged_version), 0) INTO made.version FROM documents d
        WHERE d.doc = 'instances/' || p_service || '/' || p_instance_id;
        made.epoch := made.version;
    END IF;
    outcome := CASE made.state WHEN 'registered' THEN 'updated' ELSE 'created' END;
    IF outcome = 'created' THEN
        PERFORM FROM instances WHERE service = p_service AND state = 'registered'
        OFFSET p_at_most - 1 LIMIT 1;
        IF FOUND THEN
            outcome := 'full';
            RETURN;
        END IF;
    END IF;
    made.service := p_service;
    made.instance_id := p_instance_id;
    made.epoch := made.epoch + 1;
    made.term := 1;
    made.state := 'registered';
    made.health := CASE p_lease WHEN 'heartbeat' THEN 'up' ELSE 'starting' END;
    made.owner := p_owner;
    made.definition := p_definition;
    made.lease := p_lease;
    made.ttl_seconds := p_ttl_seconds;
    made.registered_at := now();
    made.heartbeat_at := now();
    made.claimed_at := now();
    made.draining_until := NULL;
    made.fingerprint := p_fingerprint;
    SELECT * INTO made
    FROM log_instances(ARRAY[made], outcome, p_actor, p_request_id, p_source);
END
$$
"""
_DROPPED = (
    "register_instance(text, text, text, text, double precision, text, text, text, integer)",
    "log_instances(instances[], text, text, text)",
    "commit_flags(text, bigint, jsonb, text, text, text, text, text)",
)


def upgrade() -> None:
    op.add_column("audit", sa.Column("source", sa.Text))
    op.add_column("audit", sa.Column("seq", sa.BigInteger))
    op.add_column("audit", sa.Column("previous", sa.LargeBinary))
    op.add_column("audit", sa.Column("hash", sa.LargeBinary))
    op.create_table(
        "audit_head",
        sa.Column(
            "id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False
        ),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_heads",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(_AUDIT_LINK)
    for function in (_AUDIT_CHAIN, _AUDIT_HEAD):
        op.execute(function.format(schema=schema))
    op.execute(_REFUSE)
    op.execute(_CHAIN_WHAT_IS_THERE)
    for column in ("seq", "previous", "hash"):
        op.alter_column("audit", column, nullable=False)
    op.create_unique_constraint("audit_seq_key", "audit", ["seq"])
    for trigger in _TRIGGERS:
        op.execute(trigger)
    op.add_column("intents", sa.Column("source", sa.Text))
    op.add_column("intents", sa.Column("facts", JSONB))
    op.add_column("instances", sa.Column("fingerprint", sa.Text))
    for function in _DROPPED:
        op.execute(f"DROP FUNCTION {function}")
    for function in (_ADVANCE_DOCUMENT, _COMMIT_FLAGS, _LOG_INSTANCES, _REGISTER_INSTANCE):
        op.execute(function)
