CREATE FUNCTION is_covered(p_scopes jsonb, p_environment text, p_service text)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT EXISTS (
        SELECT FROM jsonb_array_elements(p_scopes) AS given (scope)
        WHERE (
            p_environment = 'default' OR p_environment LIKE ANY (ARRAY(
                SELECT jsonb_array_elements_text(given.scope -> 'environments')
            ))
        ) AND (
            p_service = '_shared' OR p_service LIKE ANY (ARRAY(
                SELECT jsonb_array_elements_text(given.scope -> 'services')
            ))
        )
    )
$$
