CREATE FUNCTION start_release(
    p_release jsonb, p_most integer, p_actor text, p_comment text, p_request_id text,
    p_source text, p_facts jsonb
) RETURNS TABLE (outcome text, release releases) LANGUAGE plpgsql AS $$
DECLARE
    given releases := jsonb_populate_record(NULL::releases, p_release);
BEGIN
    SELECT r.* INTO release FROM releases r WHERE r.id = given.id;
    IF FOUND THEN
        outcome := 'repeated';
        RETURN NEXT;
        RETURN;
    END IF;
    IF p_most <= (
        SELECT count(*) FROM releases r WHERE r.state IN ('running', 'held', 'finishing')
    ) THEN
        outcome := 'too_many';
        RETURN NEXT;
        RETURN;
    END IF;

    given.version := 1;
    given.state := 'running';
    given.step := 0;
    given.step_since := clock_timestamp();
    given.started_at := given.step_since;
    given.started_by := p_actor;
    given.signal := '';
    given.actor := p_actor;
    given.comment := p_comment;
    given.revision := 0;
    INSERT INTO releases SELECT given.* ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN  -- by another one of the same subject, or the same one a moment ago
        SELECT r.* INTO release FROM releases r
        WHERE r.id = given.id OR (
            r.kind = given.kind AND r.environment = given.environment
            AND r.service = given.service AND r.flag = given.flag
            AND r.state IN ('running', 'held', 'finishing')
        )
        ORDER BY r.id = given.id DESC LIMIT 1;
        outcome := CASE WHEN release.id = given.id THEN 'repeated' ELSE 'running' END;
        RETURN NEXT;
        RETURN;
    END IF;
    given.revision := log_release(given, 'created', p_request_id, p_source, p_facts);
    UPDATE releases r SET revision = given.revision WHERE r.id = given.id;
    outcome := 'started';
    release := given;
    RETURN NEXT;
END
$$
