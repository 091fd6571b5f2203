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
