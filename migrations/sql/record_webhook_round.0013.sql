CREATE FUNCTION record_webhook_round(
    p_webhook text, p_owner text, p_seconds interval, p_cursor bigint, p_gaps integer,
    p_delivered text[], p_kept jsonb, p_attempts jsonb, p_most_dead integer,
    p_most_attempts integer, OUT cursor_now bigint, OUT waiting_now bigint
) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE webhook_cursors SET
        cursor = greatest(cursor, p_cursor), gaps = gaps + p_gaps,
        lease_until = now() + p_seconds
    WHERE webhook = p_webhook AND owner = p_owner RETURNING cursor INTO cursor_now;
    IF cursor_now IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM webhook_deliveries WHERE webhook = p_webhook AND id = ANY (p_delivered);
    INSERT INTO webhook_deliveries AS d (
        webhook, id, revision, entity, message, attempts, queued_at, due_at, dead_at, status, reason
    )
    SELECT
        p_webhook, k.id, k.revision, k.entity, k.message, k.attempts, now(),
        now() + k.delay * interval '1 second', CASE WHEN k.is_dead THEN now() END, k.status,
        k.reason
    FROM jsonb_to_recordset(p_kept) AS k (
        id text, revision bigint, entity text, message text, attempts integer,
        delay double precision, is_dead boolean, status integer, reason text
    )
    ON CONFLICT (webhook, id) DO UPDATE SET
        attempts = excluded.attempts, due_at = excluded.due_at, dead_at = excluded.dead_at,
        status = excluded.status, reason = excluded.reason;
    DELETE FROM webhook_deliveries WHERE webhook = p_webhook AND id IN (
        SELECT id FROM webhook_deliveries WHERE webhook = p_webhook AND dead_at IS NOT NULL
        ORDER BY dead_at DESC, revision DESC OFFSET p_most_dead
    );
    PERFORM add_webhook_attempts(p_webhook, p_attempts, p_most_attempts);
    SELECT count(*) INTO waiting_now FROM webhook_deliveries
    WHERE webhook = p_webhook AND dead_at IS NULL;
END
$$
