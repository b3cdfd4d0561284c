-- Long work, where it meets the worker: plans, questions, limits.

-- A chat as its worker would get it, for somebody who may read it.
CREATE OR REPLACE FUNCTION look_at_chat(p_actor uuid, p_chat uuid)
RETURNS worker_result LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN owned_result(read_chat(p_chat, p_actor), '[]', true);
END $$;

-- One call of several that wait is answered. `p_version`: the snapshot that `p_remaining` (the
-- calls that then still wait for the client) was made from.
CREATE OR REPLACE FUNCTION answer_question(
    p_actor uuid, p_chat uuid, p_call text, p_content json, p_remaining json, p_version bigint
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    n integer := array_position(c.action_calls, p_call);
BEGIN
    PERFORM next_status(c, 'submit_tool_results');
    IF c.snapshot_version <> p_version THEN
        PERFORM refuse('conflict', 'the chat has changed meanwhile');
    ELSIF n IS NULL OR c.action_results[n] IS NOT NULL THEN
        PERFORM refuse('not_found', 'no such question is pending',
            jsonb_build_object('call_id', p_call));
    END IF;
    c.action_results[n] := json_build_object(
        'type', 'tool-result', 'call_id', p_call, 'tool', c.action_tools[n],
        'content', p_content, 'is_error', false);
    c.action_pending := p_remaining;
    RETURN action_answered(c, 'submit_tool_results');
END $$;

-- Idempotent for a call: a worker that died may have stored it already.
CREATE OR REPLACE FUNCTION propose_plan(p_chat uuid, p_runner text, p_call text, p_text text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL OR c.runner_id IS DISTINCT FROM p_runner OR c.status <> 'running' THEN
        PERFORM refuse('stale_fence', 'the chat has moved on', jsonb_build_object(
            'owned', c.runner_id IS NOT DISTINCT FROM p_runner, 'status', c.status,
            'history_version', c.history_version));
    END IF;
    IF c.plan ->> 'call_id' = p_call AND c.plan ->> 'state' = 'proposed' THEN
        RETURN;
    END IF;
    UPDATE chats SET snapshot_version = snapshot_version + 1, updated_at = now(),
            plan = json_build_object('text', p_text, 'state', 'proposed', 'call_id', p_call,
                'proposed_at', now())
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'chat.updated', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
END $$;

-- `p_content`: what the model is told, which starts a turn; NULL for nothing.
CREATE OR REPLACE FUNCTION decide_plan(
    p_actor uuid, p_chat uuid, p_approved boolean, p_comment text, p_content json,
    p_max_queued integer
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    r transition_result;
    decision text := CASE WHEN p_approved THEN 'approved' ELSE 'rejected' END;
BEGIN
    PERFORM next_status(c, 'update');
    IF c.plan IS NULL OR c.plan ->> 'state' <> 'proposed' THEN
        PERFORM refuse('conflict', 'no plan waits for a decision',
            jsonb_build_object('state', c.plan ->> 'state'));
    END IF;
    UPDATE chats SET snapshot_version = snapshot_version + 1, updated_at = now(),
            plan = (c.plan::jsonb || jsonb_build_object('state', decision))::json,
            plan_mode = plan_mode AND NOT p_approved
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'chat.updated', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
    PERFORM record_audit(p_actor, c.id, 'plan.' || decision,
        json_build_object('call_id', c.plan ->> 'call_id', 'comment', p_comment));
    IF p_content IS NULL THEN
        RETURN answer(json_build_object('chat', chat_json(c)));
    END IF;
    r := send_message(p_actor, p_chat, p_content, '', 'queue', NULL, NULL, p_max_queued);
    SELECT * INTO c FROM chats WHERE id = p_chat;
    r.reply := json_build_object('chat', chat_json(c));
    RETURN r;
END $$;

-- Waits for a person, with no call open: a limit of the turn is reached. `p_reached` is what the
-- worker was told before; a person may have raised it since then, and the turn then goes on.
CREATE OR REPLACE FUNCTION pause_turn(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_reached json,
    p_expires_s double precision
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
    reached jsonb := reached_limit(c);
BEGIN
    IF reached IS NULL THEN
        PERFORM next_status(c, 'enter_requires_action');
        RETURN owned_result(c, '[]', true);
    END IF;
    UPDATE chats SET status = next_status(c, 'enter_requires_action'),
            snapshot_version = snapshot_version + 1,
            attempt_started_at = NULL, retry_history = NULL, runner_id = NULL,
            action_calls = NULL, action_tools = NULL, action_results = NULL,
            action_pending = '[]', action_asks = NULL, action_decisions = NULL,
            limit_reached = reached::json,
            action_expires_at = clock_timestamp() + make_interval(secs => p_expires_s),
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'action.required', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'action', action_json(c)));
    PERFORM emit_status(c);
    DELETE FROM leases WHERE chat_id = c.id;
    RETURN owned_result(c, '[]', true);
END $$;
