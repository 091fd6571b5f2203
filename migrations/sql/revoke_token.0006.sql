CREATE FUNCTION revoke_token(p_id text, p_actor text, p_request_id text, p_source text)
RETURNS tokens LANGUAGE plpgsql AS $$
DECLARE
    found tokens;
BEGIN
    SELECT * INTO found FROM tokens WHERE id = p_id FOR UPDATE;
    IF found.id IS NULL OR found.revoked_at IS NOT NULL THEN
        RETURN found;
    END IF;
    found.revoked_at := now();
    found.revision := log_token(
        found, 2, 'deleted', p_actor, p_request_id, p_source,
        jsonb_build_object('name', found.name, 'class', found.token_class)
    );
    UPDATE tokens SET revoked_at = found.revoked_at, revision = found.revision WHERE id = p_id;
    RETURN found;
END
$$
