CREATE FUNCTION commit_definitions(
    p_edits jsonb, p_judged_at bigint, p_judged jsonb, p_actor text, p_comment text,
    p_request_id text, p_source text, p_policies_at bigint DEFAULT NULL,
    OUT outcome text, OUT moved bigint, OUT moved_place integer, OUT first_revision bigint,
    OUT moment timestamptz, OUT created timestamptz[]
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    written definition_versions[];  -- their revisions count from 0 until they are known
    is_open boolean;
    last_revision bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7310015);
    moment := clock_timestamp();

    SELECT found.place, found.version INTO moved_place, moved
    FROM (
        SELECT
            e.place, e.base, coalesce(i.version, 0) + row_number() OVER (
                PARTITION BY e.edit ->> 'kind', e.edit ->> 'name' ORDER BY e.place
            ) - 1 AS version
        FROM (
            SELECT given.edit, given.place, (given.edit ->> 'base')::integer AS base
            FROM jsonb_array_elements(p_edits) WITH ORDINALITY AS given (edit, place)
        ) e
        LEFT JOIN definition_items i
            ON i.kind = e.edit ->> 'kind' AND i.name = e.edit ->> 'name'
    ) found
    WHERE found.version <> found.base ORDER BY found.place LIMIT 1;
    IF FOUND THEN
        outcome := 'definition';
        RETURN;
    END IF;

    SELECT max(i.revision) INTO moved FROM definition_items i
    WHERE i.kind = 'policy' AND i.revision > p_policies_at;
    IF moved IS NOT NULL THEN
        outcome := 'policies';
        RETURN;
    END IF;

    IF p_judged_at IS NOT NULL THEN
        -- One statement, which sees an intent either under way or in the change that it became.
        SELECT
            (
                SELECT max(c.revision) FROM changes c
                WHERE c.revision > p_judged_at AND c.kind = 'config'
                    AND position('/' IN c.name) = 0
                    AND is_covered(p_judged, c.environment, c.name)
            ),
            EXISTS (
                SELECT FROM intents i
                WHERE i.state = 'open' AND i.kind = 'config' AND position('/' IN i.name) = 0
                    AND is_covered(p_judged, i.environment, i.name)
            )
            OR EXISTS (
                SELECT FROM intents i
                WHERE i.state = 'reserved' AND i.look_after > clock_timestamp()
                    AND i.kind = 'config' AND position('/' IN i.name) = 0
                    AND is_covered(p_judged, i.environment, i.name)
            )
        INTO moved, is_open;
        IF moved IS NOT NULL THEN
            outcome := 'moved';
            RETURN;
        END IF;
        IF is_open THEN
            outcome := 'open';
            RETURN;
        END IF;
    END IF;

    SELECT
        array_agg(
            ROW(
                e.edit ->> 'kind', e.edit ->> 'name', (e.edit ->> 'base')::integer + 1,
                e.edit ->> 'definition', e.edit ->> 'action', p_actor, p_comment, moment,
                coalesce(i.created_at, moment), e.place - 1
            )::definition_versions ORDER BY e.place
        ),
        array_agg(coalesce(i.created_at, moment) ORDER BY e.place)
    INTO written, created
    FROM jsonb_array_elements(p_edits) WITH ORDINALITY AS e (edit, place)
    LEFT JOIN definition_items i ON i.kind = e.edit ->> 'kind' AND i.name = e.edit ->> 'name';

    outcome := 'committed';
    IF written IS NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7310011);
    SELECT min(taken.revision), max(taken.revision) INTO first_revision, last_revision
    FROM (
        SELECT nextval('changes_revision') AS revision
        FROM generate_series(1, cardinality(written))
    ) taken;

    INSERT INTO changes (
        revision, id, doc, kind, environment, name, version, action, actor, comment, at, deleted
    )
    SELECT
        first_revision + w.revision, gen_random_uuid()::text,
        CASE w.kind WHEN 'policy' THEN 'policies' ELSE w.kind || 's' END || '/' || w.name, w.kind,
        'default', w.name, w.version, w.action, w.actor, w.comment, w.at, w.action = 'deleted'
    FROM unnest(written) AS w;
    INSERT INTO definition_versions (
        kind, name, version, definition, action, actor, comment, at, created_at, revision
    )
    SELECT
        w.kind, w.name, w.version, w.definition, w.action, w.actor, w.comment, w.at, w.created_at,
        first_revision + w.revision
    FROM unnest(written) AS w;
    INSERT INTO definition_items (
        kind, name, version, definition, action, actor, comment, at, created_at, revision, scopes
    )
    SELECT DISTINCT ON (w.kind, w.name)
        w.kind, w.name, w.version, w.definition, w.action, w.actor, w.comment, w.at, w.created_at,
        first_revision + w.revision, p_edits -> w.revision::integer -> 'scopes'
    FROM unnest(written) AS w ORDER BY w.kind, w.name, w.version DESC
    ON CONFLICT (kind, name) DO UPDATE SET
        version = excluded.version, definition = excluded.definition, action = excluded.action,
        actor = excluded.actor, comment = excluded.comment, at = excluded.at,
        revision = excluded.revision, scopes = excluded.scopes;
    INSERT INTO documents (
        doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
    )
    SELECT DISTINCT ON (w.kind, w.name)
        CASE w.kind WHEN 'policy' THEN 'policies' ELSE w.kind || 's' END || '/' || w.name, w.kind,
        'default', w.name, w.version,
        first_revision + w.revision, w.action = 'deleted', w.at, w.actor
    FROM unnest(written) AS w ORDER BY w.kind, w.name, w.version DESC
    ON CONFLICT (doc) DO UPDATE SET
        logged_version = excluded.logged_version, revision = excluded.revision,
        deleted = excluded.deleted, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by;
    INSERT INTO audit (
        actor, action, kind, environment, name, version, revision, request_id, source, facts
    )
    SELECT
        w.actor, w.action, w.kind, 'default', w.name, w.version, first_revision + w.revision,
        p_request_id, p_source, p_edits -> w.revision::integer -> 'facts'
    FROM unnest(written) AS w ORDER BY w.revision;
    PERFORM pg_notify('pilothouse_changes', last_revision::text);
END
$$
