CREATE FUNCTION is_related(p_environment text, p_service text, p_other text, p_name text)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (p_environment = 'default' OR p_other IN ('default', p_environment))
        AND (
            p_name IN ('_shared', p_service)
            OR p_service = '_shared' AND position('/' IN p_name) = 0
        )
$$
