"""Instances that are registered. Adds only: the release before runs on."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

_REGISTERED = sa.text("state = 'registered'")

# Stores rows that the caller has locked and changed, each as its next version, and logs it.
#
# Two locks, always in this order. The rows, by service and instance, so that nobody waits for
# somebody who waits for him. Then the advisory lock, as late as possible (see advance_document);
# whoever has it waits for nothing else: the pointer in `documents` belongs to who has the row.
_LOG_INSTANCES = """
CREATE FUNCTION log_instances(
    p_moved instances[], p_action text, p_actor text, p_request_id text
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
    INSERT INTO audit (actor, action, kind, environment, name, version, revision, request_id)
    SELECT
        p_actor, p_action, 'instance', 'default', m.service || '/' || m.instance_id,
        m.version + 1, before + m.ordinality, p_request_id
    FROM unnest(p_moved) WITH ORDINALITY AS m;
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
            m.draining_until, m.version + 1, before + m.ordinality, now()
        FROM unnest(p_moved) WITH ORDINALITY AS m
        ON CONFLICT (service, instance_id) DO UPDATE SET
            epoch = excluded.epoch, term = excluded.term, state = excluded.state,
            health = excluded.health, owner = excluded.owner, definition = excluded.definition,
            lease = excluded.lease, ttl_seconds = excluded.ttl_seconds,
            registered_at = excluded.registered_at, heartbeat_at = excluded.heartbeat_at,
            claimed_at = excluded.claimed_at, draining_until = excluded.draining_until,
            version = excluded.version, revision = excluded.revision, moved_at = excluded.moved_at
        RETURNING i.*;
END
$$
"""

# The outcome is `created`, `updated` (it was registered just before), or `full` if the service has
# as many registered instances as it may: nothing is written then. Those who register instances of
# one service take turns (7310014 is REGISTER_LOCK in app/postgres/locks.py; services of one hash
# share a turn), or they would count past each other.
#
# An epoch never comes again, though the row was reaped: each registration is one version of many,
# and the pointer remembers the last version.
_REGISTER_INSTANCE = """
CREATE FUNCTION register_instance(
    p_service text, p_instance_id text, p_definition text, p_lease text,
    p_ttl_seconds double precision, p_owner text, p_actor text, p_request_id text,
    p_at_most integer, OUT outcome text, OUT made instances
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
    SELECT * INTO made FROM log_instances(ARRAY[made], outcome, p_actor, p_request_id);
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "instances",
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("instance_id", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("health", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("lease", sa.Text, nullable=False),
        sa.Column("ttl_seconds", sa.Double, nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("draining_until", sa.DateTime(timezone=True)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("instances_by_revision", "instances", ["revision"])
    op.create_index("instances_by_owner", "instances", ["owner"], postgresql_where=_REGISTERED)
    op.create_index("instances_by_service", "instances", ["service"], postgresql_where=_REGISTERED)
    op.create_index(
        "instances_by_drain", "instances", ["draining_until"], postgresql_where=_REGISTERED
    )
    op.execute(_LOG_INSTANCES)
    op.execute(_REGISTER_INSTANCE)
