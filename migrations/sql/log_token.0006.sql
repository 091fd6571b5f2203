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
