CREATE FUNCTION commit_proposal(
    p_row jsonb, p_change jsonb, p_key text, p_digest text, p_most_open integer,
    OUT outcome text, OUT earlier text, OUT earlier_digest text,
    OUT number bigint, OUT revision bigint, OUT moment timestamptz, OUT created timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    base integer := (p_row ->> 'version')::integer;
    made text := p_row ->> 'id';
BEGIN
    moment := clock_timestamp();
    IF base = 0 THEN
        -- One creation at a time: two requests under one key, and the count of what is open.
        PERFORM pg_advisory_xact_lock(7310017);
        IF p_key IS NOT NULL THEN
            UPDATE proposals p SET idempotency_key = NULL
            WHERE p.idempotency_key = p_key AND p.created_at <= moment - interval '24 hours';
            SELECT p.id, p.digest INTO earlier, earlier_digest
            FROM proposals p WHERE p.idempotency_key = p_key;
            IF FOUND THEN
                outcome := 'repeated';
                RETURN;
            END IF;
        END IF;
        IF (p_row ->> 'is_open')::boolean
            AND (SELECT count(*) FROM proposals p WHERE p.is_open) >= p_most_open
        THEN
            outcome := 'full';
            RETURN;
        END IF;
        INSERT INTO proposals AS p (
            id, version, state, is_open, author, environments, apply_at, document, created_at,
            updated_at, revision, idempotency_key, digest
        ) VALUES (
            made, 1, p_row ->> 'state', (p_row ->> 'is_open')::boolean, p_row ->> 'author',
            ARRAY(SELECT jsonb_array_elements_text(p_row -> 'environments')),
            (p_row ->> 'apply_at')::timestamptz, p_row -> 'document', moment, moment, 0, p_key,
            p_digest
        ) RETURNING p.number, p.created_at INTO number, created;
    ELSE
        UPDATE proposals p SET
            version = base + 1, state = p_row ->> 'state',
            is_open = (p_row ->> 'is_open')::boolean,
            environments = ARRAY(SELECT jsonb_array_elements_text(p_row -> 'environments')),
            apply_at = (p_row ->> 'apply_at')::timestamptz, document = p_row -> 'document',
            updated_at = moment
        WHERE p.id = made AND p.version = base
        RETURNING p.number, p.created_at INTO number, created;
        IF NOT FOUND THEN
            outcome := 'moved';
            RETURN;
        END IF;
    END IF;

    outcome := 'committed';
    PERFORM pg_advisory_xact_lock(7310011);
    revision := nextval('changes_revision');
    UPDATE proposals p SET revision = commit_proposal.revision WHERE p.id = made;
    INSERT INTO changes (
        revision, id, doc, kind, environment, name, version, action, actor, comment, at, deleted
    ) VALUES (
        revision, gen_random_uuid()::text, 'proposals/' || made, 'proposal',
        p_change ->> 'environment', p_change ->> 'name', base + 1,
        CASE base WHEN 0 THEN 'created' ELSE 'updated' END, p_change ->> 'actor',
        p_change ->> 'comment', moment, false
    );
    INSERT INTO documents (
        doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
    ) VALUES (
        'proposals/' || made, 'proposal', p_change ->> 'environment', p_change ->> 'name', base + 1,
        revision, false, moment, p_change ->> 'actor'
    )
    ON CONFLICT (doc) DO UPDATE SET
        environment = excluded.environment, name = excluded.name,
        logged_version = excluded.logged_version, revision = excluded.revision,
        updated_at = excluded.updated_at, updated_by = excluded.updated_by;
    INSERT INTO audit (
        actor, action, kind, environment, name, version, revision, request_id, source, facts
    ) VALUES (
        p_change ->> 'actor', CASE base WHEN 0 THEN 'created' ELSE 'updated' END, 'proposal',
        p_change ->> 'environment', p_change ->> 'name', base + 1, revision,
        p_change ->> 'request_id', p_change ->> 'source', p_change -> 'facts'
    );
    PERFORM pg_notify('pilothouse_changes', revision::text);
END
$$
