-- Files: whose they are, which chats refer to them, and when nobody does any more.

CREATE OR REPLACE FUNCTION no_file(p_file uuid)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refuse('not_found', 'no such file', jsonb_build_object('file_id', p_file));
END $$;

-- `p_finished`: NULL for both kinds, otherwise only files whose upload is finished, or is not.
CREATE OR REPLACE FUNCTION file_of(p_actor uuid, p_file uuid, p_finished boolean DEFAULT true)
RETURNS files LANGUAGE plpgsql STABLE AS $$
DECLARE
    f files;
BEGIN
    SELECT * INTO f FROM files WHERE id = p_file AND owner_id = p_actor
        AND (p_finished IS NULL OR p_finished = (media_type IS NOT NULL));
    IF f.id IS NULL THEN
        PERFORM no_file(p_file);
    END IF;
    RETURN f;
END $$;

CREATE OR REPLACE FUNCTION file_json(f files)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('id', f.id, 'name', f.name, 'media_type', f.media_type,
        'size', f.size, 'sha256', f.sha256, 'created_at', f.created_at, 'expires_at', f.expires_at)
$$;

CREATE OR REPLACE FUNCTION begin_upload(
    p_actor uuid, p_file uuid, p_name text, p_max_loose integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM files WHERE owner_id = p_actor AND expires_at IS NOT NULL)
        >= p_max_loose
    THEN
        PERFORM refuse('too_many_requests',
            format('%s files wait to be used in a message; use or delete some', p_max_loose),
            jsonb_build_object('maximum', p_max_loose));
    END IF;
    INSERT INTO files (id, owner_id, name, expires_at)
        VALUES (p_file, p_actor, p_name, now() + interval '1 hour');
END $$;

CREATE OR REPLACE FUNCTION append_chunk(p_actor uuid, p_file uuid, p_index smallint, p_data bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM file_of(p_actor, p_file, false);
    INSERT INTO file_chunks (file_id, index, data) VALUES (p_file, p_index, p_data)
        ON CONFLICT (file_id, index) DO UPDATE SET data = excluded.data;
END $$;

-- What was found out about the content is written once; the same again changes nothing.
CREATE OR REPLACE FUNCTION finish_upload(
    p_actor uuid, p_file uuid, p_media_type text, p_size integer, p_sha256 text
) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    UPDATE files SET media_type = p_media_type, size = p_size, sha256 = p_sha256,
            expires_at = now() + interval '1 day'
        WHERE id = p_file AND owner_id = p_actor AND media_type IS NULL;
    RETURN json_build_object('file', file_json(file_of(p_actor, p_file)));
END $$;

CREATE OR REPLACE FUNCTION delete_file(p_actor uuid, p_file uuid)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM files WHERE id = p_file AND owner_id = p_actor;
    IF NOT FOUND THEN
        PERFORM no_file(p_file);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION list_files(p_actor uuid, p_chat uuid, p_limit integer)
RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    c chats := read_chat(p_chat, p_actor);
BEGIN
    RETURN (SELECT json_build_object('files', coalesce(json_agg(file_json(f)), '[]')) FROM (
        SELECT f.* FROM chat_files l JOIN files f ON f.id = l.file_id
            WHERE l.chat_id = c.id ORDER BY l.attached_at DESC, f.id LIMIT p_limit) f);
END $$;

-- Those of the files that a message refers to that are there, locked until it is stored: they
-- cannot expire meanwhile.
CREATE OR REPLACE FUNCTION claim_files(p_actor uuid, p_files uuid[])
RETURNS SETOF files LANGUAGE sql AS $$
    SELECT * FROM files
        WHERE id = ANY (p_files) AND owner_id = p_actor AND media_type IS NOT NULL
        ORDER BY id FOR UPDATE
$$;

-- Does nothing when there is no such chat: a repeated request made another one before.
CREATE OR REPLACE FUNCTION attach_files(p_chat uuid, p_files uuid[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chat_files (chat_id, file_id)
        SELECT c.id, f FROM chats c, unnest(p_files) AS f WHERE c.id = p_chat
        ON CONFLICT (chat_id, file_id) DO UPDATE SET attached_at = clock_timestamp();
    UPDATE files SET expires_at = NULL WHERE id = ANY (p_files) AND expires_at IS NOT NULL
        AND EXISTS (SELECT 1 FROM chat_files WHERE file_id = files.id);
END $$;

-- A fork refers to what its own history refers to. Looked for in the text, because the JSON of
-- parts is never taken apart here.
CREATE OR REPLACE FUNCTION share_files(p_source uuid, p_fork uuid)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO chat_files (chat_id, file_id, attached_at)
        SELECT p_fork, l.file_id, l.attached_at FROM chat_files l
            WHERE l.chat_id = p_source AND EXISTS (SELECT 1 FROM messages m
                WHERE m.chat_id = p_fork AND strpos(m.content::text, l.file_id::text) > 0)
$$;

CREATE OR REPLACE FUNCTION read_file_for_model(
    p_chat uuid, p_runner text, p_file uuid, p_index smallint, OUT data bytea, OUT size integer
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM chats WHERE id = p_chat AND runner_id = p_runner) THEN
        PERFORM refuse('stale_fence', 'the chat has moved on', jsonb_build_object('owned', false));
    END IF;
    SELECT k.data, f.size INTO data, size FROM chat_files l
        JOIN files f ON f.id = l.file_id
        LEFT JOIN file_chunks k ON k.file_id = f.id AND k.index = p_index
        WHERE l.chat_id = p_chat AND l.file_id = p_file;
    IF NOT FOUND THEN
        PERFORM no_file(p_file);
    END IF;
END $$;

-- Removes what no chat has referred to in time.
CREATE OR REPLACE FUNCTION expire_files(p_limit integer)
RETURNS bigint LANGUAGE sql AS $$
    WITH expired AS (
        SELECT id FROM files WHERE expires_at < now() ORDER BY expires_at LIMIT p_limit
            FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM files WHERE id IN (SELECT id FROM expired) RETURNING id
    )
    SELECT count(*) FROM gone
$$;

-- The last chat that referred to a file is gone, and the file with it. The lock comes first: a
-- message that refers to it at this moment is then seen by the second statement.
CREATE OR REPLACE FUNCTION drop_unshared_files()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM files WHERE id IN (SELECT file_id FROM gone) ORDER BY id FOR UPDATE;
    DELETE FROM files WHERE id IN (SELECT file_id FROM gone)
        AND NOT EXISTS (SELECT 1 FROM chat_files WHERE file_id = files.id);
    RETURN NULL;
END $$;

-- Dropped with its function whenever the functions are replaced.
CREATE OR REPLACE TRIGGER chat_files_gone AFTER DELETE ON chat_files
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION drop_unshared_files();
