-- Chats that are too large for one request: their messages wait here, seen by nobody, until the
-- request that imports them all.

CREATE OR REPLACE FUNCTION stage_import(
    p_actor uuid, p_key text, p_first integer, p_count integer, p_messages bytea,
    p_max_bytes bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- One at a time for each person, or several could pass the limit together.
    PERFORM pg_advisory_xact_lock(hashtextextended('import:' || p_actor, 0));
    DELETE FROM import_chunks WHERE user_id = p_actor AND created_at < now() - interval '1 day';
    INSERT INTO import_chunks (user_id, client_key, first, count, messages)
        VALUES (p_actor, p_key, p_first, p_count, p_messages)
        ON CONFLICT (user_id, client_key, first) DO UPDATE
            SET count = p_count, messages = p_messages, created_at = now();
    IF (SELECT sum(octet_length(messages)) FROM import_chunks WHERE user_id = p_actor) > p_max_bytes
    THEN
        PERFORM refuse('payload_too_large', format(
            'more than %s bytes wait to be imported; finish what was begun, or wait a day',
            p_max_bytes), jsonb_build_object('field', 'messages'));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION expire_imports()
RETURNS void LANGUAGE sql AS $$
    DELETE FROM import_chunks WHERE created_at < now() - interval '1 day'
$$;
