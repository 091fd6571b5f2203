CREATE FUNCTION move_release(
    p_id text, p_version integer, p_state text, p_step integer, p_restarts boolean,
    p_members text[], p_signal text, p_actor text, p_comment text, p_request_id text,
    p_source text, p_facts jsonb
) RETURNS TABLE (outcome text, release releases) LANGUAGE plpgsql AS $$
DECLARE
    given releases;
BEGIN
    SELECT r.* INTO given FROM releases r WHERE r.id = p_id FOR UPDATE;
    outcome := CASE
        WHEN given.id IS NULL THEN 'unknown'
        WHEN given.state IN ('done', 'aborted') THEN 'ended'
        WHEN given.version <> p_version THEN 'moved'
        ELSE 'written'
    END;
    IF outcome = 'written' THEN
        given.version := given.version + 1;
        given.state := p_state;
        given.step := p_step;
        given.step_since := CASE
            WHEN p_restarts THEN clock_timestamp() ELSE given.step_since
        END;
        given.members := coalesce(p_members, given.members);
        given.signal := p_signal;
        given.ended_at := CASE
            WHEN p_state IN ('done', 'aborted') THEN clock_timestamp()
        END;
        given.actor := p_actor;
        given.comment := p_comment;
        IF given.proposal IS NOT NULL THEN
            p_facts := p_facts || jsonb_build_object('proposal', given.proposal);
        END IF;
        IF given.flag <> '' THEN
            p_facts := p_facts || jsonb_build_object('flag', given.flag);
        END IF;
        given.revision := log_release(given, 'updated', p_request_id, p_source, p_facts);
        UPDATE releases r SET
            version = given.version, state = given.state, step = given.step,
            step_since = given.step_since, members = given.members, signal = given.signal,
            ended_at = given.ended_at, actor = given.actor, comment = given.comment,
            revision = given.revision
        WHERE r.id = p_id;
    END IF;
    release := given;
    RETURN NEXT;
END
$$
