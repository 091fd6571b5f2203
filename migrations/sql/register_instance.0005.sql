CREATE FUNCTION register_instance(
    p_service text, p_instance_id text, p_definition text, p_lease text,
    p_ttl_seconds double precision, p_owner text, p_actor text, p_request_id text,
    p_at_most integer, p_source text DEFAULT NULL, p_fingerprint text DEFAULT NULL,
    OUT outcome text, OUT made instances
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7310014, hashtext(p_service));
    SELECT * INTO made FROM instances
    WHERE service = p_service AND instance_id = p_instance_id FOR UPDATE;
    IF NOT FOUND THEN
        SELECT coalesce(max(d.logged_version), 0) INTO made.version FROM documents d
        WHERE d.doc = 'instances/' || p_service || '/' || p_instance_id;
        made.epoch := made.version;
    END IF;
    outcome := CASE made.state WHEN 'registered' THEN 'updated' ELSE 'created' END;
    IF outcome = 'created' THEN
        PERFORM FROM instances WHERE service = p_service AND state = 'registered'
        OFFSET p_at_most - 1 LIMIT 1;
        IF FOUND THEN
            outcome := 'full';
            RETURN;
        END IF;
    END IF;
    made.service := p_service;
    made.instance_id := p_instance_id;
    made.epoch := made.epoch + 1;
    made.term := 1;
    made.state := 'registered';
    made.health := CASE p_lease WHEN 'heartbeat' THEN 'up' ELSE 'starting' END;
    made.owner := p_owner;
    made.definition := p_definition;
    made.lease := p_lease;
    made.ttl_seconds := p_ttl_seconds;
    made.registered_at := now();
    made.heartbeat_at := now();
    made.claimed_at := now();
    made.draining_until := NULL;
    made.fingerprint := p_fingerprint;
    SELECT * INTO made
    FROM log_instances(ARRAY[made], outcome, p_actor, p_request_id, p_source);
END
$$
