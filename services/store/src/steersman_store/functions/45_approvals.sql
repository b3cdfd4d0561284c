-- Approvals, the rules that ask for them, and the book of what was decided.

CREATE OR REPLACE FUNCTION record_audit(p_actor uuid, p_chat uuid, p_action text, p_details json)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO audit (actor_id, chat_id, action, details)
        VALUES (p_actor, p_chat, p_action, p_details)
$$;

-- Something that an action waited for is there. The turn goes on once nothing else is pending: with
-- all results in the history, or with calls left that a worker may run now.
CREATE OR REPLACE FUNCTION action_answered(c chats, p_transition text)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    pending boolean;
    complete boolean;
    results json;
BEGIN
    SELECT bool_or(c.action_results[i] IS NULL AND c.action_decisions[i] IS NULL),
            bool_and(c.action_results[i] IS NOT NULL)
        INTO pending, complete FROM generate_subscripts(c.action_calls, 1) AS i;
    IF pending THEN
        UPDATE chats SET snapshot_version = snapshot_version + 1,
                action_results = c.action_results, action_decisions = c.action_decisions,
                action_pending = c.action_pending,
                updated_at = now()
            WHERE id = c.id RETURNING * INTO c;
        PERFORM emit(c, 'action.required', json_build_object(
            'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'action', action_json(c)));
        RETURN answer(json_build_object('chat', chat_json(c)));
    END IF;
    results := action_results(c, '');
    UPDATE chats SET status = next_status(c, p_transition),
            snapshot_version = snapshot_version + 1,
            history_version = CASE WHEN complete THEN snapshot_version + 1 ELSE history_version END,
            generation_attempt = CASE WHEN complete THEN 0 ELSE generation_attempt END,
            action_calls = CASE WHEN complete THEN NULL ELSE c.action_calls END,
            action_tools = CASE WHEN complete THEN NULL ELSE c.action_tools END,
            action_results = CASE WHEN complete THEN NULL ELSE c.action_results END,
            action_decisions = CASE WHEN complete THEN NULL ELSE c.action_decisions END,
            action_asks = NULL, action_pending = NULL, action_expires_at = NULL, updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    IF complete THEN
        PERFORM append_message(c, 'tool', results);
    END IF;
    PERFORM emit_status(c);
    RETURN answer(json_build_object('chat', chat_json(c)), true);
END $$;

-- `p_scope`: once, chat or always; how far an approval reaches.
CREATE OR REPLACE FUNCTION resolve_approval(
    p_actor uuid, p_chat uuid, p_call text, p_approved boolean, p_reason text, p_scope text
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    n integer;
BEGIN
    PERFORM next_status(c, 'resolve_approval');
    n := array_position(c.action_calls, p_call);
    IF n IS NULL OR c.action_asks[n] IS NULL THEN
        PERFORM refuse('not_found', 'no such approval is pending',
            jsonb_build_object('call_id', p_call));
    ELSIF c.action_decisions[n] IS NOT NULL THEN
        PERFORM refuse('conflict', 'this call was decided already',
            jsonb_build_object('call_id', p_call, 'decision', c.action_decisions[n]));
    END IF;
    c.action_decisions[n] := CASE WHEN p_approved THEN 'approved' ELSE 'denied' END;
    IF NOT p_approved THEN
        c.action_results[n] := json_build_object(
            'type', 'tool-result', 'call_id', p_call, 'tool', c.action_tools[n],
            'content', json_build_array(json_build_object('type', 'text',
                'text', concat_ws(': ', 'a person refused this call', nullif(p_reason, '')))),
            'is_error', true);
    ELSIF p_scope <> 'once' THEN
        INSERT INTO grants (user_id, chat_id, tool)
            VALUES (p_actor, CASE WHEN p_scope = 'chat' THEN c.id END, c.action_tools[n])
            ON CONFLICT DO NOTHING;
    END IF;
    PERFORM record_audit(p_actor, c.id, 'approval.' || c.action_decisions[n], json_build_object(
        'call_id', p_call, 'tool', c.action_tools[n], 'scope', p_scope, 'reason', p_reason,
        'asked', c.action_asks[n]));
    RETURN action_answered(c, 'resolve_approval');
END $$;

CREATE OR REPLACE FUNCTION policies_of(c chats)
RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    above uuid[] := ARRAY[c.id];
BEGIN
    IF NOT EXISTS (SELECT 1 FROM policies) THEN  -- on the path of every turn
        RETURN '[]';
    END IF;
    IF c.parent_id IS NOT NULL THEN
        above := ARRAY(SELECT lineage(c.id));
    END IF;
    RETURN (SELECT coalesce(json_agg(json_build_object('level', level, 'rules', rules)), '[]')
        FROM policies
        WHERE (level = 'system' AND subject IS NULL) OR (level = 'user' AND subject = c.owner_id)
            OR (level = 'chat' AND subject = ANY (above)));
END $$;

CREATE OR REPLACE FUNCTION grants_of(c chats)
RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    above uuid[] := ARRAY[c.id];
BEGIN
    IF NOT EXISTS (SELECT 1 FROM grants WHERE user_id = c.owner_id) THEN
        RETURN '[]';
    END IF;
    IF c.parent_id IS NOT NULL THEN
        above := ARRAY(SELECT lineage(c.id));
    END IF;
    RETURN (SELECT coalesce(json_agg(DISTINCT tool), '[]') FROM grants
        WHERE user_id = c.owner_id AND (chat_id IS NULL OR chat_id = ANY (above)));
END $$;

-- What rules look at: see `RuleFacts` in the contracts.
CREATE OR REPLACE FUNCTION rule_facts(c chats)
RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    root uuid := c.id;
BEGIN
    IF c.parent_id IS NOT NULL THEN
        root := root_of(c.id);
    END IF;
    RETURN json_strip_nulls(json_build_object(
        'cost_micros', (SELECT coalesce(sum(u.cost), 0) FROM usage_days u WHERE u.root_id = root),
        'workspace', (SELECT json_build_object('id', w.id, 'name', w.name,
                'template', w.template, 'driver', w.driver)
            FROM chats r JOIN workspaces w ON w.id = r.workspace_id WHERE r.id = root)));
END $$;

-- Takes a grant back: what it allowed is asked about again, from the chat's next step on.
CREATE OR REPLACE FUNCTION revoke_grant(p_actor uuid, p_chat uuid, p_tool text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM grants
        WHERE user_id = p_actor AND chat_id IS NOT DISTINCT FROM p_chat AND tool = p_tool;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'no such grant', jsonb_build_object('tool', p_tool));
    END IF;
    PERFORM record_audit(p_actor, p_chat, 'grant.revoked', json_build_object('tool', p_tool));
END $$;

-- A chat that is no longer below another, or a copy of one that is, may do nothing that it might not
-- do there: it gets the nearest rules, unless it has its own.
CREATE OR REPLACE FUNCTION keep_rules(p_source uuid, p_chat uuid)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO policies (level, subject, rules)
        SELECT 'chat', p_chat, p.rules FROM lineage(p_source) WITH ORDINALITY AS a(id, n)
            JOIN policies p ON p.level = 'chat' AND p.subject = a.id ORDER BY a.n LIMIT 1
        ON CONFLICT DO NOTHING
$$;

-- `p_version`: what the caller has read; NULL replaces whatever is there.
CREATE OR REPLACE FUNCTION put_policy(
    p_actor uuid, p_level text, p_subject uuid, p_rules json, p_version integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    present integer;
BEGIN
    IF p_level = 'chat' THEN
        PERFORM next_status(lock_chat(p_subject, p_actor), 'update');
    END IF;
    SELECT version INTO present FROM policies
        WHERE level = p_level AND subject IS NOT DISTINCT FROM p_subject FOR UPDATE;
    IF p_version IS NOT NULL AND p_version <> coalesce(present, 0) THEN
        PERFORM refuse('conflict', 'the rules have changed since they were read',
            jsonb_build_object('version', coalesce(present, 0)));
    END IF;
    INSERT INTO policies AS p (level, subject, rules) VALUES (p_level, p_subject, p_rules)
        ON CONFLICT (level, subject) DO UPDATE
            SET rules = p_rules, version = p.version + 1, updated_at = now()
        RETURNING version INTO present;
    PERFORM record_audit(p_actor, CASE WHEN p_level = 'chat' THEN p_subject END, 'policy.changed',
        json_build_object('level', p_level, 'rules', p_rules));
    RETURN present;
END $$;
