CREATE FUNCTION audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    head audit_head;
    last record;
BEGIN
    SELECT * INTO head FROM audit_head FOR UPDATE;
    SELECT seq, hash INTO last FROM audit ORDER BY seq DESC LIMIT 1;
    IF last.seq > head.seq THEN
        head.seq := last.seq;
        head.hash := last.hash;
    END IF;
    NEW.seq := head.seq + 1;
    NEW.previous := head.hash;
    NEW.hash := audit_link(head.hash, NEW);
    RETURN NEW;
END
$$
