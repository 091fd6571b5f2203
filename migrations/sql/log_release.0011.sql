CREATE FUNCTION log_release(
    p_release releases, p_action text, p_request_id text, p_source text, p_facts jsonb
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    taken bigint;
    doc_key text := 'releases/' || p_release.id;
    full_name text := p_release.service || '/' || p_release.id;
BEGIN
    PERFORM pg_advisory_xact_lock(7310011);
    taken := nextval('changes_revision');
    INSERT INTO changes (
        revision, id, doc, kind, environment, name, version, action, actor, comment, at, deleted
    ) VALUES (
        taken, gen_random_uuid()::text, doc_key, 'release', p_release.environment, full_name,
        p_release.version, p_action, p_release.actor, p_release.comment, clock_timestamp(), false
    );
    INSERT INTO documents (
        doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
    ) VALUES (
        doc_key, 'release', p_release.environment, full_name, p_release.version, taken, false,
        clock_timestamp(), p_release.actor
    )
    ON CONFLICT (doc) DO UPDATE SET
        logged_version = excluded.logged_version, revision = excluded.revision,
        updated_at = excluded.updated_at, updated_by = excluded.updated_by;
    INSERT INTO audit (
        actor, action, kind, environment, name, version, revision, request_id, source, facts
    ) VALUES (
        p_release.actor, p_action, 'release', p_release.environment, full_name, p_release.version,
        taken, p_request_id, p_source, p_facts
    );
    PERFORM pg_notify('pilothouse_changes', taken::text);
    RETURN taken;
END
$$
