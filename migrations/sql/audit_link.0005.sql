CREATE FUNCTION audit_link(p_previous bytea, p_row audit) RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
DECLARE
    told text := '';
    field text;
BEGIN
    FOREACH field IN ARRAY ARRAY[
        p_row.seq::text, round(extract(epoch FROM p_row.at) * 1000000)::bigint::text,
        p_row.actor, p_row.action, p_row.kind, p_row.environment, p_row.name,
        p_row.version::text, p_row.revision::text, p_row.request_id, p_row.source,
        p_row.facts::text
    ] LOOP
        told := told || coalesce(octet_length(convert_to(field, 'UTF8')) || ':' || field, '-');
    END LOOP;
    RETURN sha256(p_previous || convert_to(told, 'UTF8'));
END
$$
