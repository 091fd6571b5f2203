CREATE FUNCTION confirm_intent(p_intent jsonb, p_first_look interval)
RETURNS SETOF intents LANGUAGE plpgsql AS $$
DECLARE
    given intents := jsonb_populate_record(NULL::intents, p_intent);
BEGIN
    -- Both locks, or a begin and a commit of definitions could take the reservation for lapsed
    -- while it becomes open.
    PERFORM pg_advisory_xact_lock_shared(7310015);
    PERFORM pg_advisory_xact_lock(7310016);

    RETURN QUERY SELECT i.* FROM intents i WHERE i.id = given.id AND i.state <> 'reserved';
    IF FOUND THEN  -- confirmed by this request, whose answer was lost
        RETURN;
    END IF;

    UPDATE intents i SET idempotency_key = NULL
    WHERE i.idempotency_key = given.idempotency_key AND i.at <= now() - interval '24 hours';
    BEGIN
        IF NOT EXISTS (
            SELECT FROM intents i WHERE i.idempotency_key = given.idempotency_key
        ) THEN
            RETURN QUERY UPDATE intents i SET
                base_version = given.base_version, action = given.action, actor = given.actor,
                comment = given.comment, request_id = given.request_id, at = given.at,
                idempotency_key = given.idempotency_key, digest = given.digest,
                source = given.source, facts = given.facts, state = 'open',
                look_after = clock_timestamp() + p_first_look
            WHERE i.id = given.id AND i.doc = given.doc AND i.look_after > clock_timestamp()
            RETURNING i.*;
            RETURN;
        END IF;
    EXCEPTION WHEN unique_violation THEN
        NULL;  -- the key was taken by a begin without a guard that was as quick
    END;
    DELETE FROM intents i WHERE i.id = given.id;
    RETURN QUERY SELECT i.* FROM intents i WHERE i.idempotency_key = given.idempotency_key;
END
$$
