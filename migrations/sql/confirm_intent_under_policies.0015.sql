CREATE FUNCTION confirm_intent_under_policies(
    p_policies_at bigint, p_intent jsonb, p_first_look interval
) RETURNS SETOF intents LANGUAGE plpgsql AS $$
DECLARE
    given intents := jsonb_populate_record(NULL::intents, p_intent);
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7310015);
    PERFORM pg_advisory_xact_lock(7310016);
    IF EXISTS (SELECT FROM intents i WHERE i.id = given.id AND i.state = 'reserved')
        AND newest_policy_change(
            p_policies_at, given.environment, split_part(given.name, '/', 1)
        ) IS NOT NULL
    THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM confirm_intent(p_intent, p_first_look);
END
$$
