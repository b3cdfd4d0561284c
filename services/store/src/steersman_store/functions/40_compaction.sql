-- Summaries: a boundary in the history, behind which the model does not look.

CREATE OR REPLACE FUNCTION request_compaction(p_actor uuid, p_chat uuid)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    present text := c.status;
    wanted text := next_status(c, 'request_compaction');
BEGIN
    IF NOT EXISTS (SELECT 1 FROM messages m WHERE m.chat_id = c.id AND m.deleted_at IS NULL
            AND m.visibility <> 'user' AND m.role = 'assistant' AND m.id > coalesce((
                SELECT max(b.id) FROM messages b WHERE b.chat_id = c.id AND b.deleted_at IS NULL
                    AND b.boundary IS NOT NULL), 0))
    THEN
        PERFORM refuse('conflict', 'there is nothing to summarise yet',
            jsonb_build_object('chat_id', c.id));
    END IF;
    UPDATE chats SET status = wanted, snapshot_version = snapshot_version + 1,
            compaction_requested = true, last_error = NULL,
            steps = CASE WHEN present = 'running' THEN steps ELSE 0 END, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    IF wanted <> present THEN
        PERFORM emit_status(c);
    END IF;
    RETURN answer(json_build_object('chat', chat_json(c)), c.runner_id IS NULL);
END $$;

-- Takes the newest summary back, with what it carried over, as long as nothing followed.
CREATE OR REPLACE FUNCTION undo_compaction(p_actor uuid, p_chat uuid)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    summary messages;
BEGIN
    PERFORM next_status(c, 'undo_compaction');
    SELECT * INTO summary FROM messages WHERE chat_id = c.id AND deleted_at IS NULL
        AND boundary IS NOT NULL ORDER BY id DESC LIMIT 1;
    IF summary.id IS NULL OR summary.boundary = 'clear' OR EXISTS (
        SELECT 1 FROM messages m WHERE m.chat_id = c.id AND m.deleted_at IS NULL
            AND m.id > summary.id AND m.revision <> summary.revision)
    THEN
        PERFORM refuse('conflict', 'only a summary that nothing has followed can be taken back',
            jsonb_build_object('chat_id', c.id));
    END IF;
    UPDATE chats SET snapshot_version = snapshot_version + 1,
            history_version = snapshot_version + 1, generation_attempt = 0, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    UPDATE messages SET deleted_at = now(), revision = c.snapshot_version
        WHERE chat_id = c.id AND id >= summary.id AND deleted_at IS NULL;
    PERFORM emit(c, 'history.reset', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version,
        'history_version', c.history_version, 'from_message_id', summary.id));
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

-- The summary streams as an episode, but is not one that a successor could save as a partial step.
CREATE OR REPLACE FUNCTION begin_compaction(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_source text
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
BEGIN
    PERFORM next_status(c, 'begin_compaction');
    UPDATE chats SET snapshot_version = snapshot_version + 1,
            generation_attempt = generation_attempt + 1, attempt_started_at = NULL,
            retry_history = NULL
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'compaction.started', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'source', p_source,
        'history_version', c.history_version, 'attempt', c.generation_attempt));
    RETURN json_build_object(
        'attempt', c.generation_attempt, 'snapshot_version', c.snapshot_version);
END $$;

CREATE OR REPLACE FUNCTION commit_compaction(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_new new_messages,
    p_boundary text, p_begin boolean
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
    appended json[] := '{}';
BEGIN
    UPDATE chats SET status = next_status(c, 'commit_compaction'),
            snapshot_version = snapshot_version + 1, history_version = snapshot_version + 1,
            generation_attempt = p_begin::integer, compaction_requested = false,
            attempt_started_at = CASE WHEN p_begin THEN clock_timestamp() END, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    FOR i IN 1 .. array_length(p_new.roles, 1) LOOP
        appended := appended || message_json(append_message(
            c, p_new.roles[i], p_new.contents[i]::json, p_new.publics[i]::json,
            p_new.visibilities[i], p_new.models[i], p_new.usages[i]::json, p_new.stops[i],
            p_boundary => CASE WHEN i = 1 THEN p_boundary END,
            p_response_id => p_new.response_ids[i]), true);
    END LOOP;
    PERFORM emit(c, 'compaction.finished', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'succeeded', true));
    IF p_begin THEN
        PERFORM emit_attempt(c);
    END IF;
    RETURN owned_result(c, array_to_json(appended), true, p_begin);
END $$;

CREATE OR REPLACE FUNCTION fail_compaction(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_error json
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
BEGIN
    UPDATE chats SET status = next_status(c, 'fail_compaction'),
            snapshot_version = snapshot_version + 1, compaction_requested = false,
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'compaction.finished', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'succeeded', false,
        'error', p_error));
    RETURN owned_result(c, '[]', true);
END $$;
