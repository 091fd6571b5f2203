CREATE FUNCTION newest_policy_change(p_after bigint, p_environment text, p_service text)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT max(i.revision) FROM definition_items i
    WHERE i.kind = 'policy' AND i.revision > p_after
        AND is_covered(i.scopes, p_environment, p_service)
$$
