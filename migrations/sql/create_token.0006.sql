CREATE FUNCTION create_token(
    p_token jsonb, p_actor text, p_request_id text, p_source text, p_facts jsonb
) RETURNS tokens LANGUAGE plpgsql AS $$
DECLARE
    made tokens;
BEGIN
    made := jsonb_populate_record(NULL::tokens, p_token);
    made.created_at := now();
    made.revision := log_token(made, 1, 'created', p_actor, p_request_id, p_source, p_facts);
    INSERT INTO tokens SELECT made.*;
    RETURN made;
END
$$
