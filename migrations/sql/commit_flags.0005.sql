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
