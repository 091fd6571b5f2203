CREATE OR REPLACE FUNCTION begin_intent(
    p_intent jsonb, p_guard bigint, p_covers_related boolean, p_first_look interval,
    OUT outcome text, OUT moved bigint, OUT intent intents
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    given intents := jsonb_populate_record(NULL::intents, p_intent);
    service text := split_part(given.name, '/', 1);
    is_open boolean;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7310015);
    IF p_covers_related THEN
        PERFORM pg_advisory_xact_lock(7310016);
    END IF;

    outcome := 'begun';
    SELECT i.* INTO intent FROM intents i
    WHERE i.id = given.id
        OR i.idempotency_key = given.idempotency_key AND i.at > now() - interval '24 hours'
    ORDER BY i.id = given.id DESC LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;

    -- One statement, which sees an intent either under way or in the change that it became.
    SELECT
        greatest(
            (
                SELECT max(d.revision) FROM definition_items d
                WHERE d.revision > p_guard AND d.kind IN ('schema', 'policy')
                    AND is_covered(d.scopes, given.environment, service)
            ),
            (
                SELECT max(c.revision) FROM changes c
                WHERE p_covers_related AND c.revision > p_guard AND c.kind = 'config' AND (
                    c.doc = given.doc
                    OR is_related(given.environment, service, c.environment, c.name)
                )
            )
        ),
        p_covers_related AND (
            EXISTS (
                SELECT FROM intents i
                WHERE i.state = 'open' AND i.kind = 'config' AND (
                    i.doc = given.doc
                    OR is_related(given.environment, service, i.environment, i.name)
                )
            )
            OR EXISTS (
                SELECT FROM intents i
                WHERE i.state = 'reserved' AND i.look_after > clock_timestamp()
                    AND i.kind = 'config' AND (
                        i.doc = given.doc
                        OR is_related(given.environment, service, i.environment, i.name)
                    )
            )
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

    UPDATE intents i SET idempotency_key = NULL
    WHERE i.idempotency_key = given.idempotency_key AND i.at <= now() - interval '24 hours';
    INSERT INTO intents AS i (
        id, doc, kind, environment, name, base_version, action, actor, comment, request_id, at,
        idempotency_key, digest, source, facts, state, look_after, seq
    ) VALUES (
        given.id, given.doc, given.kind, given.environment, given.name, given.base_version,
        given.action, given.actor, given.comment, given.request_id, given.at,
        given.idempotency_key, given.digest, given.source, given.facts, 'open',
        clock_timestamp() + p_first_look, nextval('intents_seq')
    ) ON CONFLICT DO NOTHING RETURNING i.* INTO intent;
    IF NOT FOUND THEN  -- by a begin without a guard that was as quick
        SELECT i.* INTO intent FROM intents i
        WHERE i.id = given.id OR i.idempotency_key = given.idempotency_key
        ORDER BY i.id = given.id DESC LIMIT 1;
    END IF;
END
$$
