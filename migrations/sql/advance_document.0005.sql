CREATE OR REPLACE FUNCTION advance_document(
    p_doc text, p_kind text, p_environment text, p_name text, p_written jsonb
) RETURNS documents LANGUAGE plpgsql AS $$
DECLARE
    document documents;
    intent intents;
    found_version record;
    change changes;
    ahead integer;
    last_version integer;
BEGIN
    SELECT * INTO document FROM documents WHERE doc = p_doc FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO documents (
            doc, kind, environment, name, logged_version, revision, deleted, updated_at, updated_by
        ) VALUES (p_doc, p_kind, p_environment, p_name, 0, 0, false, now(), '')
        ON CONFLICT (doc) DO NOTHING;
        SELECT * INTO document FROM documents WHERE doc = p_doc FOR UPDATE;
    END IF;

    SELECT count(*), max(w.version) INTO ahead, last_version
    FROM jsonb_to_recordset(p_written) AS w(version integer)
    WHERE w.version > document.logged_version;
    IF last_version - document.logged_version <> ahead THEN
        RETURN document;
    END IF;

    IF ahead > 0 THEN
        PERFORM pg_advisory_xact_lock(7310011);
        FOR found_version IN
            SELECT w.* FROM jsonb_to_recordset(p_written)
                AS w(version integer, change_id text, at timestamptz, comment text, deleted boolean)
            WHERE w.version > document.logged_version ORDER BY w.version
        LOOP
            SELECT * INTO intent FROM intents
            WHERE id = found_version.change_id AND doc = p_doc
                AND base_version = found_version.version - 1;
            IF FOUND THEN
                change.id := intent.id;
                change.action := intent.action;
                change.actor := intent.actor;
                change.comment := intent.comment;
                change.at := coalesce(found_version.at, intent.at);
            ELSE
                change.id := gen_random_uuid()::text;
                change.action := 'external';
                change.actor := 'external';
                change.comment := found_version.comment;
                change.at := now();
            END IF;
            INSERT INTO changes (
                id, doc, kind, environment, name, version, action, actor, comment, at, deleted
            ) VALUES (
                change.id, p_doc, p_kind, p_environment, p_name, found_version.version,
                change.action, change.actor, change.comment, change.at, found_version.deleted
            ) RETURNING * INTO change;
            INSERT INTO audit (
                actor, action, kind, environment, name, version, revision, request_id, source,
                facts
            ) VALUES (
                change.actor, change.action, p_kind, p_environment, p_name, change.version,
                change.revision, intent.request_id, intent.source, intent.facts
            );
            UPDATE intents
            SET state = 'applied', version = change.version, revision = change.revision
            WHERE id = intent.id AND state IN ('open', 'expired');
        END LOOP;
        UPDATE documents
        SET logged_version = change.version, revision = change.revision, deleted = change.deleted,
            updated_at = change.at, updated_by = change.actor
        WHERE doc = p_doc RETURNING * INTO document;
        PERFORM pg_notify('pilothouse_changes', document.revision::text);
    END IF;

    -- Also when nothing was new: an intent may have been begun on a base already passed.
    UPDATE intents SET state = 'lost'
    WHERE doc = p_doc AND base_version < document.logged_version AND state IN ('open', 'expired');
    RETURN document;
END
$$
