-- What every transition is made of. Replaced as a whole whenever one of these files changes.

-- What a transition tells the process that called it.
DROP TYPE IF EXISTS transition_result CASCADE;
CREATE TYPE transition_result AS (
    reply json,          -- the body of the RPC reply
    hint boolean,        -- the chat is runnable and wants a worker
    runner_id text,      -- the owner that must look at the chat again
    control json,        -- what it is told
    others json          -- more owners: [{chat_id, runner_id, control}]
);

CREATE OR REPLACE FUNCTION answer(
    reply json, hint boolean DEFAULT false, runner_id text DEFAULT NULL, control json DEFAULT NULL
) RETURNS transition_result LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(reply, hint, runner_id, control, NULL)::transition_result
$$;

CREATE OR REPLACE FUNCTION refuse(code text, message text, details jsonb DEFAULT '{}')
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'SM000', MESSAGE = message,
        DETAIL = jsonb_build_object('code', code, 'details', details)::text;
END $$;

-- The state machine. `backlog`: a queued message will be promoted.
CREATE OR REPLACE FUNCTION next_status(c chats, wanted text, backlog boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_status text;
BEGIN
    SELECT CASE WHEN backlog THEN m.next_with_backlog ELSE m.next_status END INTO found_status
        FROM state_machine m
        WHERE m.archived = c.archived AND m.status = c.status AND m.transition = wanted;
    IF found_status IS NULL THEN
        PERFORM refuse('transition_refused',
            format('%L is not allowed while the chat is %L%s', wanted, c.status,
                CASE WHEN c.archived THEN ' and archived' ELSE '' END),
            jsonb_build_object('status', c.status, 'transition', wanted, 'archived', c.archived));
    END IF;
    RETURN found_status;
END $$;

-- Whose chats an actor may read and change. Sharing and roles will change this one place.
CREATE OR REPLACE FUNCTION may_use(c chats, actor uuid)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT c.owner_id = actor $$;

CREATE OR REPLACE FUNCTION lock_chat(p_chat uuid, p_actor uuid)
RETURNS chats LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL OR NOT may_use(c, p_actor) THEN
        PERFORM refuse('not_found', 'no such chat', jsonb_build_object('chat_id', p_chat));
    END IF;
    RETURN c;
END $$;

CREATE OR REPLACE FUNCTION read_chat(p_chat uuid, p_actor uuid)
RETURNS chats LANGUAGE plpgsql STABLE AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat;
    IF c.id IS NULL OR NOT may_use(c, p_actor) THEN
        PERFORM refuse('not_found', 'no such chat', jsonb_build_object('chat_id', p_chat));
    END IF;
    RETURN c;
END $$;

-- The worker's lock: the row must still be what the worker believes.
CREATE OR REPLACE FUNCTION lock_fenced(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text
) RETURNS chats LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL THEN
        PERFORM refuse('not_found', 'no such chat', jsonb_build_object('chat_id', p_chat));
    END IF;
    IF c.runner_id IS DISTINCT FROM p_runner OR c.history_version <> p_history_version
        OR c.status <> p_status
    THEN
        PERFORM refuse('stale_fence', 'the chat has moved on', jsonb_build_object(
            'status', c.status, 'history_version', c.history_version,
            'owned', c.runner_id IS NOT DISTINCT FROM p_runner));
    END IF;
    RETURN c;
END $$;

CREATE OR REPLACE FUNCTION emit(c chats, event text, body json)
RETURNS void LANGUAGE sql AS $$
    -- Put before the rest as text: taking the body apart would trip over \u0000 in it.
    INSERT INTO outbox (chat_id, part, owner_id, event, body)
        VALUES (c.id, c.part, c.owner_id, event, CASE WHEN c.parent_id IS NULL THEN body
            ELSE ('{"parent_id":"' || c.parent_id || '",' || substr(ltrim(body::text), 2))::json END)
$$;

CREATE OR REPLACE FUNCTION action_json(c chats)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN c.action_expires_at IS NOT NULL THEN json_build_object(
        'calls', coalesce(c.action_pending, '[]'), 'expires_at', c.action_expires_at,
        'limit', c.limit_reached,
        'approvals', (SELECT coalesce(json_agg(c.action_asks[i] ORDER BY i), '[]')
            FROM generate_subscripts(c.action_calls, 1) AS i
            WHERE c.action_asks[i] IS NOT NULL AND c.action_decisions[i] IS NULL),
        'waits', (SELECT coalesce(json_agg(json_build_object('call_id', w.call_id,
                'agent_ids', w.agent_ids, 'deadline', w.deadline) ORDER BY w.id), '[]')
            FROM waits w WHERE w.chat_id = c.id)) END
$$;

-- The owner's own mark, until chats are shared.
CREATE OR REPLACE FUNCTION has_unread(c chats)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM messages m
        WHERE m.chat_id = c.id AND m.role = 'assistant' AND m.deleted_at IS NULL
            AND m.id > coalesce((SELECT k.last_read_id FROM chat_marks k
                WHERE k.chat_id = c.id AND k.user_id = c.owner_id), 0))
$$;

CREATE OR REPLACE FUNCTION chat_json(c chats)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', c.id, 'owner_id', c.owner_id, 'title', c.title, 'title_source', c.title_source,
        'model', c.model, 'effort', c.effort, 'status', c.status,
        'created_at', c.created_at, 'updated_at', c.updated_at,
        'snapshot_version', c.snapshot_version, 'history_version', c.history_version,
        'queue_version', c.queue_version, 'generation_attempt', c.generation_attempt,
        'archived', c.archived,
        'queue_size', (SELECT count(*) FROM queued_messages q WHERE q.chat_id = c.id),
        'system_prompt', c.system_prompt, 'last_error', c.last_error,
        'last_outcome', c.last_outcome,
        'action', action_json(c), 'labels', c.labels, 'workspace_id', c.workspace_id,
        'mcp_server_ids', c.mcp_server_ids,
        'plan_mode', c.plan_mode, 'plan', c.plan, 'limits', c.limits,
        'response_schema', c.response_schema,
        'cost_micros', (SELECT coalesce(sum(u.cost), 0) FROM usage_days u WHERE u.chat_id = c.id),
        'cost_unknown_steps', (SELECT coalesce(sum(u.unknown_steps), 0) FROM usage_days u
            WHERE u.chat_id = c.id),
        -- The owner's own marks, until chats are shared.
        'pin_position', (SELECT k.pin_position FROM chat_marks k
            WHERE k.chat_id = c.id AND k.user_id = c.owner_id),
        'has_unread', has_unread(c),
        'parent_id', c.parent_id, 'root_id', c.root_id, 'agent_kind', c.agent_kind,
        'detached', c.detached, 'tree_cost_micros', tree_cost(c))
$$;

-- `internal`: with what providers need back; towards chatloop alone.
CREATE OR REPLACE FUNCTION message_json(m messages, internal boolean DEFAULT false)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', m.id, 'role', m.role,
        'parts', CASE WHEN m.deleted_at IS NOT NULL THEN '[]'
            WHEN internal THEN m.content ELSE coalesce(m.public_content, m.content) END,
        'revision', m.revision, 'created_at', m.created_at, 'visibility', m.visibility,
        'model', m.model, 'usage', m.usage, 'cost', m.cost, 'stop', m.stop,
        'response_id', m.response_id,
        'content_version', m.content_version, 'boundary', m.boundary, 'deleted', m.deleted_at IS NOT NULL)
$$;

CREATE OR REPLACE FUNCTION queued_json(q queued_messages)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('id', q.id, 'parts', q.content, 'created_at', q.created_at)
$$;

CREATE OR REPLACE FUNCTION queue_json(p_chat uuid)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT coalesce(json_agg(queued_json(q) ORDER BY q.position), '[]')
        FROM queued_messages q WHERE q.chat_id = p_chat
$$;

CREATE OR REPLACE FUNCTION control_json(c chats)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'chat_id', c.id, 'status', c.status, 'history_version', c.history_version)
$$;

-- A message joins the history at the chat's present snapshot version, and the log hears of it.
CREATE OR REPLACE FUNCTION append_message(
    c chats, p_role text, p_content json, p_public json DEFAULT NULL,
    p_visibility text DEFAULT 'both', p_model text DEFAULT NULL, p_usage json DEFAULT NULL,
    p_stop text DEFAULT NULL, p_boundary text DEFAULT NULL, p_response_id text DEFAULT NULL
) RETURNS messages LANGUAGE plpgsql AS $$
DECLARE
    m messages;
    step boolean := p_model IS NOT NULL AND (p_role = 'assistant' OR p_usage IS NOT NULL);
    spent bigint := CASE WHEN step THEN cost_at(p_model, p_usage) END;
BEGIN
    INSERT INTO messages (chat_id, role, visibility, content, public_content, size, revision, model,
            usage, stop, boundary, cost, response_id, spent_before)
        VALUES (c.id, p_role, p_visibility, p_content, p_public, octet_length(p_content::text),
            c.snapshot_version, p_model, p_usage, p_stop, p_boundary, spent, p_response_id,
            CASE WHEN p_role = 'user' AND p_visibility = 'both' THEN spent_by(c.id) END)
        RETURNING * INTO m;
    IF step THEN
        PERFORM record_usage(c, p_model, p_usage, spent);
        PERFORM note_answer(m);
        PERFORM record_spending(c, (p_role = 'assistant')::integer, p_usage, spent);
    END IF;
    IF p_visibility <> 'model' THEN
        PERFORM emit(c, 'message.created', json_build_object(
            'chat_id', c.id, 'snapshot_version', c.snapshot_version,
            'history_version', c.history_version, 'message', message_json(m)));
    END IF;
    IF p_usage IS NOT NULL AND p_model IS NOT NULL THEN
        PERFORM emit(c, 'usage.recorded', json_build_object(
            'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'message_id', m.id,
            'model', p_model, 'usage', p_usage, 'cost', spent));
    END IF;
    RETURN m;
END $$;

CREATE OR REPLACE FUNCTION emit_status(c chats, outcome text DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
    SELECT emit(c, 'chat.status', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'status', c.status,
        'history_version', c.history_version, 'outcome', outcome, 'updated_at', c.updated_at,
        'has_unread', CASE WHEN outcome IS NOT NULL THEN has_unread(c) END))
$$;

CREATE OR REPLACE FUNCTION emit_queue(c chats)
RETURNS void LANGUAGE sql AS $$
    SELECT emit(c, 'queue.updated', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'queue_version', c.queue_version,
        'queue', queue_json(c.id)))
$$;

CREATE OR REPLACE FUNCTION enqueue(
    c chats, p_content json, p_model text, p_effort text DEFAULT NULL,
    p_response_schema json DEFAULT NULL
) RETURNS queued_messages LANGUAGE sql AS $$
    INSERT INTO queued_messages (chat_id, position, content, model, effort, response_schema)
        SELECT c.id, coalesce(max(q.position), 0) + 1, p_content, p_model, p_effort,
                p_response_schema
            FROM queued_messages q WHERE q.chat_id = c.id
        RETURNING *
$$;

-- The head of the queue of `c`: where its next message is put to go first.
CREATE OR REPLACE FUNCTION move_to_head(c chats, p_queued bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE queued_messages SET position =
            (SELECT min(position) - 1 FROM queued_messages WHERE chat_id = c.id)
        WHERE id = p_queued AND chat_id = c.id;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'no such queued message',
            jsonb_build_object('queued_id', p_queued));
    END IF;
END $$;

-- The head of the queue becomes the message that the next turn answers.
CREATE OR REPLACE FUNCTION promote_head(c chats)
RETURNS messages LANGUAGE plpgsql AS $$
DECLARE
    q queued_messages;
    wanted text;
BEGIN
    DELETE FROM queued_messages WHERE id = (
            SELECT id FROM queued_messages WHERE chat_id = c.id ORDER BY position LIMIT 1)
        RETURNING * INTO q;
    IF q.response_schema IS NOT NULL OR c.turn_schema IS NOT NULL THEN
        UPDATE chats SET turn_schema = q.response_schema WHERE id = c.id;
    END IF;
    wanted := coalesce(q.model, c.model);
    wanted := coalesce(replacement(wanted), wanted);
    IF wanted <> c.model OR q.effort <> coalesce(c.effort, '') THEN
        UPDATE chats SET model = wanted, effort = coalesce(q.effort, effort) WHERE id = c.id;
        c.model := wanted;
        c.effort := coalesce(q.effort, c.effort);
        PERFORM chat_updated(c);
    END IF;
    RETURN append_message(c, 'user', q.content);
END $$;

-- The results of an action that is over: those that are there, and an error for each pending call.
CREATE OR REPLACE FUNCTION action_results(c chats, p_missing text)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT ('[' || string_agg(coalesce(
            c.action_results[i]::text,
            json_build_object(
                'type', 'tool-result', 'call_id', c.action_calls[i], 'tool', c.action_tools[i],
                'content', json_build_array(json_build_object('type', 'text', 'text', p_missing)),
                'is_error', true)::text), ',' ORDER BY i) || ']')::json
        FROM generate_subscripts(c.action_calls, 1) AS i
$$;

-- An action ends without its results: the calls are closed, and the turn is over.
CREATE OR REPLACE FUNCTION end_action(c chats, p_transition text, p_outcome text, p_missing text)
RETURNS chats LANGUAGE plpgsql AS $$
DECLARE
    -- A summary that was asked for meanwhile is written before anything is promoted, as at the end
    -- of any turn; only an interrupt of the turn that writes it takes the wish back.
    backlog boolean := NOT c.compaction_requested
        AND EXISTS (SELECT 1 FROM queued_messages WHERE chat_id = c.id);
    wanted text := next_status(c, p_transition, backlog OR c.compaction_requested);
    results json := action_results(c, p_missing);
    -- A turn that waits at a limit has no open calls.
    changes boolean := backlog OR results IS NOT NULL;
    -- Who promotes has moved a message to the head, also where a summary comes before it.
    reordered boolean := backlog OR p_transition = 'promote_queued';
BEGIN
    DELETE FROM waits WHERE chat_id = c.id;
    UPDATE chats SET status = wanted, snapshot_version = snapshot_version + 1,
            history_version = CASE WHEN changes THEN snapshot_version + 1 ELSE history_version END,
            -- Counted on within one history version: no episode is ever opened twice.
            generation_attempt = CASE WHEN changes THEN 0 ELSE generation_attempt END,
            queue_version = CASE WHEN reordered THEN snapshot_version + 1 ELSE queue_version END,
            action_calls = NULL, action_tools = NULL, action_results = NULL, action_pending = NULL,
            action_asks = NULL, action_decisions = NULL, action_expires_at = NULL,
            limit_reached = NULL, steps = 0, last_outcome = p_outcome, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    IF results IS NOT NULL THEN
        PERFORM append_message(c, 'tool', results);
    END IF;
    PERFORM emit_status(c, p_outcome);
    IF reordered AND NOT backlog THEN
        PERFORM emit_queue(c);
    END IF;
    IF backlog THEN
        PERFORM promote_head(c);
        PERFORM emit_queue(c);
        SELECT model, effort, turn_schema INTO c.model, c.effort, c.turn_schema
            FROM chats WHERE id = c.id;
    END IF;
    RETURN c;
END $$;
