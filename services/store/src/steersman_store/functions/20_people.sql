-- Transitions and reads that people ask for. Each is one round trip, scoped by the actor.

CREATE OR REPLACE FUNCTION check_model(p_model text)
RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_model IS NOT NULL AND NOT is_offered(p_model) THEN
        PERFORM refuse('unknown_model', format('no enabled model %L', p_model),
            jsonb_build_object('field', 'model', 'model', p_model));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION default_model()
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    chosen text := preferred_model();
BEGIN
    IF chosen IS NULL THEN
        PERFORM refuse('unknown_model', 'no model is configured; add a provider first',
            jsonb_build_object('field', 'model'));
    END IF;
    RETURN chosen;
END $$;

CREATE OR REPLACE FUNCTION create_chat(
    p_actor uuid, p_chat uuid, p_part smallint, p_title text, p_system_prompt text, p_model text,
    p_content json, p_key text, p_client_tools json, p_title_source text, p_effort text,
    p_mcp_server_ids uuid[], p_plan_mode boolean, p_limits json, p_response_schema json
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    m messages;
    starts boolean := p_content IS NOT NULL;
BEGIN
    PERFORM check_model(p_model);
    PERFORM check_mcp_servers(p_actor, p_mcp_server_ids);
    INSERT INTO chats (id, part, owner_id, title, system_prompt, model, status, client_key,
            client_tools, title_source, effort, mcp_server_ids, plan_mode, limits, response_schema)
        VALUES (p_chat, p_part, p_actor, p_title, p_system_prompt,
            coalesce(p_model, default_model()), first_status(starts),
            p_key, p_client_tools, p_title_source, p_effort, p_mcp_server_ids, p_plan_mode,
            p_limits, p_response_schema)
        ON CONFLICT (owner_id, client_key) WHERE client_key IS NOT NULL DO NOTHING
        RETURNING * INTO c;
    IF c.id IS NULL THEN  -- the same request again
        SELECT * INTO c FROM chats WHERE owner_id = p_actor AND client_key = p_key;
        SELECT * INTO m FROM messages WHERE chat_id = c.id ORDER BY id LIMIT 1;
        RETURN answer(json_build_object('delivery', 'started', 'chat', chat_json(c), 'message',
            CASE WHEN m.id IS NOT NULL THEN message_json(m) END));
    END IF;
    PERFORM emit(c, 'chat.created', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
    IF starts THEN
        m := append_message(c, 'user', p_content);
    END IF;
    RETURN answer(json_build_object('delivery', 'started', 'chat', chat_json(c), 'message',
        CASE WHEN starts THEN message_json(m) END), starts);
END $$;

CREATE OR REPLACE FUNCTION send_message(
    p_actor uuid, p_chat uuid, p_content json, p_title text, p_busy text, p_model text, p_key text,
    p_max_queued integer, p_effort text DEFAULT NULL, p_response_schema json DEFAULT NULL
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    m messages;
    q queued_messages;
    result transition_result;
    backlog integer;
    idle boolean := c.status NOT IN ('running', 'interrupting', 'requires_action');
    interrupts boolean := p_busy = 'interrupt' AND c.status = 'running';
BEGIN
    IF p_key IS NOT NULL THEN
        SELECT reply INTO result.reply FROM client_keys
            WHERE chat_id = c.id AND client_key = p_key;
        IF FOUND THEN
            RETURN answer(result.reply);
        END IF;
    END IF;
    PERFORM check_model(p_model);
    SELECT count(*) INTO backlog FROM queued_messages WHERE chat_id = c.id;
    c.status := next_status(c, 'send_message');
    IF interrupts THEN
        c.status := next_status(c, 'interrupt');
    END IF;
    c.snapshot_version := c.snapshot_version + 1;
    IF idle AND backlog = 0 THEN
        p_model := coalesce(p_model, replacement(c.model));
    END IF;
    IF (c.title = '' AND p_title <> '') OR (idle AND backlog = 0
            AND (p_model <> c.model OR p_effort <> coalesce(c.effort, ''))) THEN
        c.title := coalesce(nullif(c.title, ''), p_title);
        c.effort := CASE WHEN idle AND backlog = 0 THEN coalesce(p_effort, c.effort)
            ELSE c.effort END;
        c.model := CASE WHEN idle AND backlog = 0 THEN coalesce(p_model, c.model) ELSE c.model END;
        PERFORM chat_updated(c);
    END IF;
    IF idle THEN
        c.history_version := c.snapshot_version;
    END IF;

    IF idle AND backlog = 0 THEN
        c.model := coalesce(p_model, c.model);
        c.turn_schema := p_response_schema;
        m := append_message(c, 'user', p_content);
    ELSE
        IF backlog >= p_max_queued THEN
            PERFORM refuse('queue_full', format('the queue holds its maximum of %s', p_max_queued),
                jsonb_build_object('maximum', p_max_queued));
        END IF;
        q := enqueue(c, p_content, p_model, p_effort, p_response_schema);
        c.queue_version := c.snapshot_version;
        IF idle THEN  -- a backlog was left behind by an error: it goes on in order
            PERFORM promote_head(c);
            SELECT model, effort, turn_schema INTO c.model, c.effort, c.turn_schema
                FROM chats WHERE id = c.id;
        END IF;
        PERFORM emit_queue(c);
    END IF;

    UPDATE chats SET status = c.status, title = c.title, model = c.model, effort = c.effort,
            turn_schema = c.turn_schema, snapshot_version = c.snapshot_version, history_version = c.history_version,
            queue_version = c.queue_version, updated_at = now(),
            steps = CASE WHEN idle THEN 0 ELSE steps END,
            generation_attempt = CASE WHEN idle THEN 0 ELSE generation_attempt END,
            attempt_started_at = CASE WHEN idle THEN NULL ELSE attempt_started_at END,
            runner_id = CASE WHEN idle THEN NULL ELSE runner_id END,
            last_error = CASE WHEN idle THEN NULL ELSE last_error END
        WHERE id = c.id RETURNING * INTO c;
    IF idle OR interrupts THEN
        PERFORM emit_status(c);
    END IF;

    IF interrupts OR p_busy = 'interrupt' AND c.status = 'requires_action' THEN
        PERFORM begin_cascade(c, 'interrupt');
    END IF;
    IF p_busy = 'interrupt' AND c.status = 'requires_action' THEN
        c := end_action(c, 'interrupt', 'interrupted', 'interrupted before it produced a result');
    END IF;

    result.reply := json_build_object(
        'delivery', CASE WHEN m.id IS NULL THEN 'queued' ELSE 'started' END,
        'chat', chat_json(c),
        'message', CASE WHEN m.id IS NOT NULL THEN message_json(m) END,
        'queued', CASE WHEN q.id IS NOT NULL THEN queued_json(q) END);
    result.hint := c.runner_id IS NULL AND c.status IN ('running', 'interrupting');
    IF interrupts THEN
        result.runner_id := c.runner_id;
        result.control := control_json(c);
    END IF;
    IF p_key IS NOT NULL THEN
        INSERT INTO client_keys (chat_id, client_key, reply) VALUES (c.id, p_key, result.reply);
    END IF;
    RETURN result;
END $$;

CREATE OR REPLACE FUNCTION interrupt_chat(p_actor uuid, p_chat uuid)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    wanted text := next_status(c, 'interrupt');
BEGIN
    IF c.status IN ('running', 'requires_action') THEN
        PERFORM begin_cascade(c, 'interrupt');
    END IF;
    IF c.status = 'requires_action' THEN  -- nobody works on it: it ends here
        c := end_action(c, 'interrupt', 'interrupted', 'interrupted before it produced a result');
        RETURN answer(json_build_object('chat', chat_json(c)), c.status = 'running');
    END IF;
    IF wanted = c.status THEN  -- idle, or interrupting already: nothing changes
        RETURN answer(json_build_object('chat', chat_json(c)));
    END IF;
    UPDATE chats SET status = wanted, snapshot_version = snapshot_version + 1, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit_status(c);
    RETURN answer(json_build_object('chat', chat_json(c)), c.runner_id IS NULL, c.runner_id,
        control_json(c));
END $$;

CREATE OR REPLACE FUNCTION update_chat(
    p_actor uuid, p_chat uuid, p_title text, p_model text, p_system_prompt text,
    p_effort text,  -- empty: as the model's setting
    p_mcp_set boolean, p_mcp_server_ids uuid[], p_plan_mode boolean, p_response_schema json
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
BEGIN
    PERFORM next_status(c, 'update');
    PERFORM check_model(p_model);
    PERFORM check_mcp_servers(c.owner_id, p_mcp_server_ids);
    UPDATE chats SET title = coalesce(p_title, title), model = coalesce(p_model, model),
            effort = CASE WHEN p_effort IS NULL THEN effort ELSE nullif(p_effort, '') END,
            title_source = CASE WHEN p_title IS NULL THEN title_source ELSE 'person' END,
            title_requested = title_requested AND p_title IS NULL,
            system_prompt = coalesce(p_system_prompt, system_prompt),
            mcp_server_ids = CASE WHEN p_mcp_set THEN p_mcp_server_ids ELSE mcp_server_ids END,
            plan_mode = coalesce(p_plan_mode, plan_mode),
            response_schema = CASE WHEN p_response_schema IS NULL THEN response_schema
                WHEN p_response_schema::text <> '{}' THEN p_response_schema END,
            snapshot_version = snapshot_version + 1, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'chat.updated', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

CREATE OR REPLACE FUNCTION delete_chat(p_actor uuid, p_chat uuid)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    member uuid;
    members uuid[];
    result transition_result;
BEGIN
    PERFORM lock_pins(p_actor);
    c := lock_chat(p_chat, p_actor);
    PERFORM next_status(c, 'delete');
    -- All of them, from above, so that nothing of a descendant can be announced after its end.
    FOR member IN SELECT id FROM attached(c.id) LOOP
        PERFORM 1 FROM chats WHERE id = member FOR UPDATE;
    END LOOP;
    members := ARRAY(SELECT id FROM attached(c.id));
    PERFORM set_free(members);
    PERFORM drop_pins(p_actor, members);
    PERFORM emit(f, 'chat.deleted', json_build_object(
        'chat_id', f.id, 'snapshot_version', f.snapshot_version + 1)) FROM attached(c.id) f;
    DELETE FROM leases WHERE chat_id = ANY (members);
    result := answer('{}'::json, false, c.runner_id, lost_json(c));
    SELECT json_agg(json_build_object(
            'chat_id', f.id, 'runner_id', f.runner_id, 'control', lost_json(f)))
        INTO result.others FROM attached(c.id) f WHERE f.id <> c.id;
    DELETE FROM chats WHERE id = c.id;  -- descendants go with it
    DELETE FROM policies WHERE level = 'chat' AND subject = ANY (members);
    DELETE FROM spending WHERE chat_id = ANY (members);
    RETURN result;
END $$;

-- Told to a worker whose chat was taken from it.
CREATE OR REPLACE FUNCTION lost_json(c chats)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('chat_id', c.id, 'status', c.status,
        'history_version', c.history_version, 'lost', true)
$$;

CREATE OR REPLACE FUNCTION edit_message(
    p_actor uuid, p_chat uuid, p_message bigint, p_content json, p_model text,
    p_effort text DEFAULT NULL, p_response_schema json DEFAULT NULL
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    former_runner text := c.runner_id;
    edited messages;
    m messages;
    had_queue boolean;
    switched boolean;
    unproposed boolean;  -- the call that proposed the present plan goes; it begins with its message
BEGIN
    SELECT * INTO edited FROM messages
        WHERE id = p_message AND chat_id = c.id AND deleted_at IS NULL AND visibility <> 'model';
    IF edited.id IS NULL THEN
        PERFORM refuse('not_found', 'no such message in this chat',
            jsonb_build_object('message_id', p_message));
    ELSIF edited.role <> 'user' THEN
        PERFORM refuse('invalid_request', 'only messages of people can be edited',
            jsonb_build_object('field', 'message_id', 'role', edited.role));
    END IF;
    PERFORM check_model(p_model);
    p_model := coalesce(p_model, replacement(c.model));
    switched := (p_model IS DISTINCT FROM c.model AND p_model IS NOT NULL)
        OR (p_effort IS DISTINCT FROM c.effort AND p_effort IS NOT NULL);
    unproposed := coalesce(c.plan ->> 'state' = 'proposed'
        AND substring(c.plan ->> 'call_id' FROM '^(\d{1,18}):')::bigint >= edited.id, false);
    c.status := next_status(c, 'edit_message');
    DELETE FROM queued_messages WHERE chat_id = c.id;
    had_queue := FOUND;
    DELETE FROM leases WHERE chat_id = c.id;
    DELETE FROM waits WHERE chat_id = c.id;
    PERFORM begin_cascade(c, 'orphans');
    UPDATE chats SET status = c.status, model = coalesce(p_model, model),
            effort = coalesce(p_effort, effort), turn_schema = p_response_schema,
            snapshot_version = snapshot_version + 1, history_version = snapshot_version + 1,
            queue_version = CASE WHEN had_queue THEN snapshot_version + 1 ELSE queue_version END,
            generation_attempt = 0, attempt_started_at = NULL, steps = 0, runner_id = NULL,
            last_error = NULL, action_calls = NULL, action_tools = NULL, action_results = NULL,
            action_pending = NULL, action_asks = NULL, action_decisions = NULL,
            action_expires_at = NULL, limit_reached = NULL, compaction_requested = false,
            plan = CASE WHEN unproposed THEN NULL ELSE plan END,
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    IF switched OR unproposed THEN
        PERFORM chat_updated(c);
    END IF;
    UPDATE messages SET deleted_at = now(), revision = c.snapshot_version
        WHERE chat_id = c.id AND id >= edited.id AND deleted_at IS NULL;
    PERFORM emit(c, 'history.reset', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version,
        'history_version', c.history_version, 'from_message_id', edited.id));
    m := append_message(c, 'user', p_content, NULL, edited.visibility);
    IF had_queue THEN
        PERFORM emit_queue(c);
    END IF;
    PERFORM emit_status(c);
    RETURN answer(
        json_build_object('delivery', 'started', 'chat', chat_json(c), 'message', message_json(m)),
        true, former_runner, lost_json(c));
END $$;

-- A change of the queue alone; the caller has checked the transition and changed the rows.
CREATE OR REPLACE FUNCTION queue_changed(c chats)
RETURNS chats LANGUAGE plpgsql AS $$
BEGIN
    UPDATE chats SET snapshot_version = snapshot_version + 1, queue_version = snapshot_version + 1,
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit_queue(c);
    RETURN c;
END $$;

CREATE OR REPLACE FUNCTION edit_queued(
    p_actor uuid, p_chat uuid, p_queued bigint, p_content json, p_keeps_schema boolean,
    p_response_schema json
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
BEGIN
    PERFORM next_status(c, 'edit_queued');
    UPDATE queued_messages SET content = p_content, response_schema =
            CASE WHEN p_keeps_schema THEN response_schema ELSE p_response_schema END
        WHERE id = p_queued AND chat_id = c.id;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'no such queued message',
            jsonb_build_object('queued_id', p_queued));
    END IF;
    c := queue_changed(c);
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

CREATE OR REPLACE FUNCTION delete_queued(p_actor uuid, p_chat uuid, p_queued bigint)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
BEGIN
    PERFORM next_status(c, 'delete_queued');
    DELETE FROM queued_messages WHERE id = p_queued AND chat_id = c.id;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'no such queued message',
            jsonb_build_object('queued_id', p_queued));
    END IF;
    c := queue_changed(c);
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

CREATE OR REPLACE FUNCTION reorder_queue(p_actor uuid, p_chat uuid, p_queued bigint[])
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    present bigint[];
    base bigint;
BEGIN
    PERFORM next_status(c, 'reorder_queue');
    SELECT coalesce(array_agg(id ORDER BY id), '{}'), coalesce(max(position), 0)
        INTO present, base FROM queued_messages WHERE chat_id = c.id;
    IF present <> (SELECT coalesce(array_agg(q ORDER BY q), '{}') FROM unnest(p_queued) AS q) THEN
        PERFORM refuse('conflict', 'the queue holds other messages than these',
            jsonb_build_object('field', 'queued_ids', 'queued_ids', present));
    END IF;
    -- Beyond all present positions, so that no two rows ever share one.
    UPDATE queued_messages q SET position = base + wanted.n
        FROM unnest(p_queued) WITH ORDINALITY AS wanted(id, n) WHERE q.id = wanted.id;
    c := queue_changed(c);
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

CREATE OR REPLACE FUNCTION promote_queued(p_actor uuid, p_chat uuid, p_queued bigint)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    present text := c.status;
    wanted text := next_status(c, 'promote_queued');
BEGIN
    PERFORM move_to_head(c, p_queued);
    IF present IN ('running', 'requires_action') THEN
        PERFORM begin_cascade(c, 'interrupt');
    END IF;
    IF present = 'requires_action' THEN
        c := end_action(c, 'promote_queued', 'interrupted',
            'interrupted before it produced a result');
        RETURN answer(json_build_object('chat', chat_json(c)), true);
    END IF;
    UPDATE chats SET status = wanted, snapshot_version = snapshot_version + 1,
            queue_version = snapshot_version + 1,
            history_version = CASE WHEN present = 'error' THEN snapshot_version + 1
                ELSE history_version END,
            generation_attempt = CASE WHEN present = 'error' THEN 0 ELSE generation_attempt END,
            last_error = CASE WHEN present = 'error' THEN NULL ELSE last_error END,
            steps = CASE WHEN present = 'error' THEN 0 ELSE steps END, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    IF present = 'error' THEN
        PERFORM promote_head(c);
        SELECT * INTO c FROM chats WHERE id = c.id;
    END IF;
    PERFORM emit_queue(c);
    IF wanted <> present THEN
        PERFORM emit_status(c);
    END IF;
    RETURN answer(json_build_object('chat', chat_json(c)),
        c.runner_id IS NULL, c.runner_id, control_json(c));
END $$;

CREATE OR REPLACE FUNCTION submit_tool_results(
    p_actor uuid, p_chat uuid, p_calls text[], p_contents text[], p_errors boolean[]
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    pending text[];
BEGIN
    PERFORM next_status(c, 'submit_tool_results');
    SELECT coalesce(array_agg(c.action_calls[i] ORDER BY i), '{}') INTO pending
        FROM generate_subscripts(c.action_calls, 1) AS i
        WHERE c.action_results[i] IS NULL AND c.action_asks[i] IS NULL AND NOT EXISTS (
            SELECT 1 FROM waits w WHERE w.chat_id = c.id AND w.call_id = c.action_calls[i]);
    IF cardinality(p_calls) <> cardinality(pending) OR NOT (p_calls @> pending AND pending @> p_calls)
    THEN
        PERFORM refuse('invalid_request', 'the results must be those of the pending calls',
            jsonb_build_object('field', 'results',
                'missing', (SELECT coalesce(jsonb_agg(x), '[]') FROM unnest(pending) AS x
                    WHERE x <> ALL (p_calls)),
                'unknown', (SELECT coalesce(jsonb_agg(x), '[]') FROM unnest(p_calls) AS x
                    WHERE x <> ALL (pending))));
    END IF;
    FOR i IN 1 .. cardinality(p_calls) LOOP
        FOR n IN 1 .. cardinality(c.action_calls) LOOP
            IF c.action_calls[n] = p_calls[i] THEN
                c.action_results[n] := json_build_object(
                    'type', 'tool-result', 'call_id', p_calls[i], 'tool', c.action_tools[n],
                    'content', p_contents[i]::json, 'is_error', p_errors[i]);
            END IF;
        END LOOP;
    END LOOP;
    c.action_pending := '[]';
    RETURN action_answered(c, 'submit_tool_results');
END $$;

-- An archived chat takes its agents along; one that is at work is interrupted first.
CREATE OR REPLACE FUNCTION archive_chat(p_actor uuid, p_chat uuid, p_archived boolean)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    member chats;
    transition text := CASE WHEN p_archived THEN 'archive' ELSE 'unarchive' END;
BEGIN
    PERFORM lock_pins(p_actor);
    c := lock_chat(p_chat, p_actor);
    IF c.archived = p_archived THEN
        RETURN answer(json_build_object('chat', chat_json(c)));
    END IF;
    FOR member IN SELECT * FROM attached(c.id) LOOP
        SELECT * INTO member FROM chats WHERE id = member.id FOR UPDATE;
        IF member.id <> c.id AND p_archived AND member.status NOT IN ('waiting', 'error') THEN
            PERFORM begin_cascade(c, 'put_away');
        ELSIF member.archived <> p_archived THEN
            PERFORM next_status(member, transition);
            UPDATE chats SET archived = p_archived, snapshot_version = snapshot_version + 1,
                    updated_at = now()
                WHERE id = member.id RETURNING * INTO member;
            PERFORM emit(member, 'chat.' || transition || 'd', json_build_object(
                'chat_id', member.id, 'snapshot_version', member.snapshot_version,
                'updated_at', member.updated_at));
        END IF;
    END LOOP;
    IF p_archived THEN
        PERFORM drop_pins(p_actor, ARRAY(SELECT id FROM attached(c.id)));
    END IF;
    SELECT * INTO c FROM chats WHERE id = c.id;
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

CREATE OR REPLACE FUNCTION clear_context(p_actor uuid, p_chat uuid)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
BEGIN
    PERFORM next_status(c, 'clear_context');
    UPDATE chats SET snapshot_version = snapshot_version + 1,
            history_version = snapshot_version + 1, generation_attempt = 0, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM append_message(c, 'system',
        '[{"type":"text","text":"The context was cleared."}]', p_boundary => 'clear');
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

CREATE OR REPLACE FUNCTION get_chat(p_actor uuid, p_chat uuid)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('chat', chat_json(read_chat(p_chat, p_actor)))
$$;

-- `p_words`: only chats whose title or messages hold all of them; the web search syntax.
CREATE OR REPLACE FUNCTION list_chats(
    p_actor uuid, p_limit integer, p_before timestamptz, p_before_id uuid, p_archived boolean,
    p_status text, p_labels jsonb, p_words text, p_pinned boolean, p_parent uuid
) RETURNS json LANGUAGE sql STABLE
    SET plan_cache_mode = force_custom_plan AS $$
    WITH page AS (
        SELECT c FROM chats c
            WHERE c.owner_id = p_actor AND may_use(c, p_actor)
                AND no_parent(c.parent_id) = no_parent(p_parent)
                AND (p_archived IS NULL OR c.archived = p_archived)
                AND (p_status IS NULL OR c.status = p_status)
                AND (p_labels IS NULL OR c.labels @> p_labels)
                AND (p_pinned IS NULL OR p_pinned = EXISTS (SELECT 1 FROM chat_marks k
                    WHERE k.chat_id = c.id AND k.user_id = p_actor AND k.pin_position IS NOT NULL))
                AND (p_words IS NULL
                    OR to_tsvector('simple', c.title) @@ websearch_to_tsquery('simple', p_words)
                    OR c.id IN (SELECT m.chat_id FROM messages m
                        WHERE m.role IN ('user', 'assistant') AND m.deleted_at IS NULL
                            AND m.visibility <> 'model'
                            AND to_tsvector('simple', search_text(m.content))
                                @@ websearch_to_tsquery('simple', p_words)))
                AND (p_before IS NULL OR (c.updated_at, c.id) < (p_before, p_before_id))
            ORDER BY c.updated_at DESC, c.id DESC LIMIT p_limit + 1
    ), numbered AS (
        SELECT c, row_number() OVER (ORDER BY (c).updated_at DESC, (c).id DESC) AS n FROM page
    )
    SELECT json_build_object(
        'chats', coalesce(json_agg(chat_json(c) ORDER BY n) FILTER (WHERE n <= p_limit), '[]'),
        'next', CASE WHEN count(*) > p_limit THEN
            (SELECT json_build_array((c).updated_at, (c).id) FROM numbered WHERE n = p_limit) END)
        FROM numbered
$$;

-- The newest messages before a position, oldest first. Out columns and not one JSON object: taking
-- JSON apart again would trip over \u0000 in a text.
CREATE OR REPLACE FUNCTION newest_messages(
    p_chat uuid, p_limit integer, p_before_id bigint, OUT messages json, OUT has_more boolean
) LANGUAGE sql STABLE AS $$
    WITH found AS (
        SELECT m FROM messages m WHERE m.chat_id = p_chat AND m.deleted_at IS NULL
            AND m.visibility <> 'model' AND m.id < coalesce(p_before_id, 9223372036854775807)
            ORDER BY m.id DESC LIMIT p_limit + 1
    ), numbered AS (
        SELECT m, row_number() OVER (ORDER BY (m).id DESC) AS n FROM found
    )
    SELECT coalesce(json_agg(message_json(m) ORDER BY n DESC) FILTER (WHERE n <= p_limit), '[]'),
        count(*) > p_limit FROM numbered
$$;

CREATE OR REPLACE FUNCTION list_messages(
    p_actor uuid, p_chat uuid, p_limit integer, p_before_id bigint, p_after_id bigint,
    p_after_revision bigint
) RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    c chats := read_chat(p_chat, p_actor);
    page json;
BEGIN
    IF p_after_revision IS NOT NULL THEN
        WITH found AS (
            -- One transition gives many messages the same revision: a page may end among them.
            SELECT m FROM messages m WHERE m.chat_id = c.id
                AND (m.revision, m.id)
                    > (p_after_revision, coalesce(p_after_id, 9223372036854775807))
                AND m.visibility <> 'model' ORDER BY m.revision, m.id LIMIT p_limit + 1
        ), numbered AS (
            SELECT m, row_number() OVER (ORDER BY (m).revision, (m).id) AS n FROM found
        )
        SELECT json_build_object(
            'messages',
            coalesce(json_agg(message_json(m) ORDER BY n) FILTER (WHERE n <= p_limit), '[]'),
            'has_more', count(*) > p_limit) INTO page FROM numbered;
    ELSIF p_after_id IS NOT NULL THEN
        WITH found AS (
            SELECT m FROM messages m WHERE m.chat_id = c.id AND m.id > p_after_id
                AND m.deleted_at IS NULL AND m.visibility <> 'model' ORDER BY m.id LIMIT p_limit + 1
        ), numbered AS (
            SELECT m, row_number() OVER (ORDER BY (m).id) AS n FROM found
        )
        SELECT json_build_object(
            'messages',
            coalesce(json_agg(message_json(m) ORDER BY n) FILTER (WHERE n <= p_limit), '[]'),
            'has_more', count(*) > p_limit) INTO page FROM numbered;
    ELSE
        SELECT json_build_object('messages', n.messages, 'has_more', n.has_more) INTO page
            FROM newest_messages(c.id, p_limit, p_before_id) n;
    END IF;
    RETURN page;
END $$;

-- STABLE: every part of it sees the same moment.
CREATE OR REPLACE FUNCTION chat_snapshot(p_actor uuid, p_chat uuid, p_limit integer)
RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    c chats := read_chat(p_chat, p_actor);
BEGIN
    RETURN (SELECT json_build_object(
        'snapshot', json_build_object(
            'chat', chat_json(c), 'messages', n.messages, 'has_more', n.has_more,
            'queue', queue_json(c.id), 'retry', pending_retry(c)),
        'attempt_started_at', CASE WHEN c.status IN ('running', 'interrupting')
            THEN c.attempt_started_at END) FROM newest_messages(c.id, p_limit, NULL) n);
END $$;
