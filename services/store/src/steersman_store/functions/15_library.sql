-- Labels, pins, the last-read cursor, search, forks.

CREATE OR REPLACE FUNCTION mark_of(p_chat uuid, p_user uuid)
RETURNS chat_marks LANGUAGE sql STABLE AS $$
    SELECT m FROM chat_marks m WHERE m.chat_id = p_chat AND m.user_id = p_user
$$;

CREATE OR REPLACE FUNCTION chat_updated(c chats)
RETURNS void LANGUAGE sql AS $$
    SELECT emit(c, 'chat.updated', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)))
$$;

-- A change of what people see beside the conversation; the caller has changed the rows.
CREATE OR REPLACE FUNCTION touch_chat(c chats)
RETURNS chats LANGUAGE plpgsql AS $$
BEGIN
    UPDATE chats SET snapshot_version = snapshot_version + 1 WHERE id = c.id RETURNING * INTO c;
    PERFORM chat_updated(c);
    RETURN c;
END $$;

CREATE OR REPLACE FUNCTION mark_read(p_actor uuid, p_chat uuid, p_message bigint)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    newest bigint;
BEGIN
    SELECT coalesce(max(id), 0) INTO newest FROM messages WHERE chat_id = c.id;
    INSERT INTO chat_marks (user_id, chat_id, last_read_id)
        VALUES (p_actor, c.id, least(coalesce(p_message, newest), newest))
        ON CONFLICT (user_id, chat_id) DO UPDATE SET last_read_id = excluded.last_read_id
            WHERE chat_marks.last_read_id < excluded.last_read_id;
    IF FOUND THEN  -- a client may say it with every message that it shows
        c := touch_chat(c);
    END IF;
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

CREATE OR REPLACE FUNCTION label_chat(p_actor uuid, p_chat uuid, p_labels jsonb)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
BEGIN
    PERFORM next_status(c, 'update');
    UPDATE chats SET labels = p_labels, updated_at = now() WHERE id = c.id;
    c := touch_chat(c);
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

-- A new chat that shares the history up to a message, and the results of its calls. `p_missing`:
-- results for calls of that message which nobody has answered yet; NULL when it has none.
-- A plan whose proposal is part of a fork can be decided there as well. Its call is named after its
-- message, which has another id in the fork.
CREATE OR REPLACE FUNCTION share_plan(source chats, c chats)
RETURNS chats LANGUAGE plpgsql AS $$
DECLARE
    proposed bigint := substring(source.plan ->> 'call_id' FROM '^(\d{1,18}):')::bigint;
    shared bigint;
BEGIN
    SELECT copy.id INTO shared FROM messages original JOIN messages copy
            ON copy.chat_id = c.id AND copy.revision = original.revision
                AND copy.role = original.role
        WHERE original.chat_id = source.id AND original.id = proposed
            AND original.deleted_at IS NULL
        ORDER BY copy.id LIMIT 1;
    IF shared IS NOT NULL THEN
        UPDATE chats SET plan = (source.plan::jsonb || jsonb_build_object('call_id',
                shared || substring(source.plan ->> 'call_id' FROM ':.*$')))::json
            WHERE id = c.id RETURNING * INTO c;
    END IF;
    RETURN c;
END $$;

CREATE OR REPLACE FUNCTION fork_chat(
    p_actor uuid, p_chat uuid, p_message bigint, p_fork uuid, p_part smallint, p_title text,
    p_missing json
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    source chats := read_chat(p_chat, p_actor);
    last_message messages;
    follows messages;
    c chats;
BEGIN
    PERFORM 1 FROM chats WHERE id = source.id FOR SHARE;  -- nothing is edited or added meanwhile
    SELECT * INTO last_message FROM messages
        WHERE id = p_message AND chat_id = source.id AND deleted_at IS NULL
            AND visibility <> 'model';
    IF last_message.id IS NULL THEN
        PERFORM refuse('not_found', 'no such message in this chat',
            jsonb_build_object('field', 'message_id', 'message_id', p_message));
    END IF;
    SELECT * INTO follows FROM messages
        WHERE chat_id = source.id AND id > p_message AND deleted_at IS NULL ORDER BY id LIMIT 1;
    IF last_message.role = 'assistant' AND follows.role = 'tool' THEN
        last_message := follows;  -- calls and their results stay together
        p_missing := NULL;
    END IF;
    INSERT INTO chats (id, part, owner_id, title, title_source, system_prompt, model, effort,
            client_tools, labels, mcp_server_ids, workspace_id, plan_mode, limits,
            response_schema, snapshot_version, history_version)
        VALUES (p_fork, p_part, p_actor, coalesce(nullif(p_title, ''), source.title),
            CASE WHEN p_title = '' THEN source.title_source ELSE 'person' END,
            source.system_prompt, source.model, source.effort, source.client_tools, source.labels,
            chosen_mcp_servers(source),
            -- The same place: what the history says about files is about those. An agent's is that
            -- of its tree.
            (SELECT r.workspace_id FROM chats r WHERE r.id = root_of(source.id)),
            source.plan_mode OR plans_above(source), source.limits, source.response_schema,
            last_message.revision + 1, last_message.revision + 1)
        RETURNING * INTO c;
    INSERT INTO messages (chat_id, role, visibility, content, public_content, content_version, size,
            revision, model, usage, stop, boundary, created_at, cost, response_id)
        -- What was written together stays together: a summary is taken back with its messages.
        SELECT c.id, role, visibility, content, public_content, content_version, size,
                revision, model, usage, stop, boundary, created_at, cost, response_id
            FROM messages m
            -- `m.id`: a bare `id` would be the first output column, which is the same in all rows.
            WHERE chat_id = source.id AND id <= last_message.id AND deleted_at IS NULL ORDER BY m.id;
    IF p_missing IS NOT NULL THEN
        INSERT INTO messages (chat_id, role, content, size, revision)
            VALUES (c.id, 'tool', p_missing, octet_length(p_missing::text), c.snapshot_version);
    END IF;
    PERFORM share_files(source.id, c.id);
    -- Whoever forks has it before their eyes: there is no answer in it that they have yet to see.
    INSERT INTO chat_marks (user_id, chat_id, last_read_id)
        SELECT p_actor, c.id, max(id) FROM messages WHERE chat_id = c.id;
    PERFORM keep_rules(source.id, c.id);
    c := share_plan(source, c);
    PERFORM emit(c, 'chat.created', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;
