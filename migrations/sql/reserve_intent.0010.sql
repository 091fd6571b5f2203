CREATE FUNCTION reserve_intent(p_intent jsonb, p_seconds double precision)
RETURNS intents LANGUAGE plpgsql AS $$
DECLARE
    given intents := jsonb_populate_record(NULL::intents, p_intent);
    intent intents;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7310015);
    PERFORM pg_advisory_xact_lock(7310016);
    INSERT INTO intents (
        id, doc, kind, environment, name, base_version, action, actor, comment, request_id, at,
        digest, source, facts, state, look_after, seq
    ) VALUES (
        given.id, given.doc, given.kind, given.environment, given.name, given.base_version,
        given.action, given.actor, given.comment, given.request_id, given.at,
        given.digest, given.source, given.facts, 'reserved',
        clock_timestamp() + p_seconds * interval '1 second', nextval('intents_seq')
    ) ON CONFLICT (id) DO NOTHING;
    SELECT i.* INTO intent FROM intents i WHERE i.id = given.id;
    RETURN intent;
END
$$
