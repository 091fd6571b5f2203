CREATE FUNCTION commit_flags_under_policies(
    p_policies_at bigint, p_environment text, p_base bigint, p_edits jsonb, p_actor text,
    p_comment text, p_request_id text, p_idempotency_key text, p_digest text, p_source text,
    OUT outcome text, OUT last_revision bigint, OUT moment timestamptz,
    OUT versions integer[], OUT created timestamptz[]
) LANGUAGE plpgsql AS $$
BEGIN
    -- Shared, as for guarded intents: no policy is committed until this is.
    PERFORM pg_advisory_xact_lock_shared(7310015);
    last_revision := newest_policy_change(p_policies_at, p_environment, '_shared');
    IF last_revision IS NOT NULL THEN
        outcome := 'policies';
        RETURN;
    END IF;
    SELECT c.* INTO outcome, last_revision, moment, versions, created
    FROM commit_flags(
        p_environment, p_base, p_edits, p_actor, p_comment, p_request_id, p_idempotency_key,
        p_digest, p_source
    ) AS c;
END
$$
