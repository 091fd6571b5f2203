CREATE FUNCTION audit_move_head() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    UPDATE audit_head SET seq = last.seq, hash = last.hash
    FROM (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) last
    WHERE last.seq > audit_head.seq;
    RETURN NULL;
END
$$
