CREATE FUNCTION add_webhook_attempts(p_webhook text, p_attempts jsonb, p_most integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last_number bigint;
    added integer := jsonb_array_length(p_attempts);
BEGIN
    UPDATE webhook_cursors SET attempted = attempted + added
    WHERE webhook = p_webhook RETURNING attempted INTO last_number;
    IF last_number IS NULL OR added = 0 THEN
        RETURN;
    END IF;
    INSERT INTO webhook_attempts (
        webhook, number, id, revision, outcome, status, reason, seconds, attempt, at
    )
    SELECT
        p_webhook, last_number - added + e.place, e.made ->> 'id', (e.made ->> 'revision')::bigint,
        e.made ->> 'outcome', (e.made ->> 'status')::integer, e.made ->> 'reason',
        (e.made ->> 'seconds')::double precision, (e.made ->> 'attempt')::integer,
        (e.made ->> 'at')::timestamptz
    FROM jsonb_array_elements(p_attempts) WITH ORDINALITY AS e (made, place)
    WHERE e.place > added - p_most;
    DELETE FROM webhook_attempts WHERE webhook = p_webhook AND number <= last_number - p_most;
END
$$
