-- Agents: spawning, waiting, and what happens to a chat reaching those below it.
--
-- Locks go down a tree and never up: a transaction that holds a chat may take chats below it. What
-- an agent's end means for a chat above it is done after the commit, in another transaction.

-- The chat whose call this is, if its worker still has it.
CREATE OR REPLACE FUNCTION lock_caller(p_chat uuid, p_runner text)
RETURNS chats LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL OR c.runner_id IS DISTINCT FROM p_runner OR c.status <> 'running' THEN
        PERFORM refuse('stale_fence', 'the chat has moved on', jsonb_build_object(
            'status', c.status, 'history_version', c.history_version,
            'owned', c.runner_id IS NOT DISTINCT FROM p_runner));
    END IF;
    RETURN c;
END $$;

-- Who may act on an agent: the chats above it.
CREATE OR REPLACE FUNCTION check_agents(p_chat uuid, p_agents uuid[])
RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    unknown uuid[];
BEGIN
    SELECT array_agg(a) INTO unknown FROM unnest(p_agents) AS a
        WHERE a = p_chat OR p_chat NOT IN (SELECT lineage(a));
    IF unknown IS NOT NULL THEN
        PERFORM refuse('not_found', format('this chat has no agent %s',
            array_to_string(unknown, ', ')), jsonb_build_object('agent_ids', to_jsonb(unknown)));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION spawn_agent(
    p_chat uuid, p_runner text, p_message bigint, p_call text, p_agent uuid, p_part smallint,
    p_content json, p_title text, p_kind text, p_model text, p_effort text,
    p_detached boolean, p_max_depth integer, p_max_agents integer, p_shares_desktop boolean
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    parent chats := lock_caller(p_chat, p_runner);
    c chats;
    busy integer;
BEGIN
    SELECT * INTO c FROM chats
        WHERE parent_id = parent.id AND spawn_message = p_message AND spawn_call = p_call;
    IF c.id IS NULL THEN
        IF depth_of(parent) >= p_max_depth THEN
            PERFORM refuse('conflict', CASE WHEN p_max_depth = 0
                    THEN 'agents are turned off in this deployment'
                    ELSE format('agents go %s deep at most: this one may have none', p_max_depth) END,
                jsonb_build_object('max_depth', p_max_depth));
        END IF;
        PERFORM check_model(p_model);
        SELECT count(*) INTO busy FROM chats
            WHERE parent_id = parent.id AND status NOT IN ('waiting', 'error');
        IF busy >= p_max_agents THEN
            PERFORM refuse('conflict', format('%s agents of this chat are at work, and no more '
                    'may be: wait for one of them, or interrupt one', busy),
                jsonb_build_object('max_agents', p_max_agents));
        END IF;
        INSERT INTO chats (id, part, owner_id, title, title_source, system_prompt, model, status,
                parent_id, root_id, agent_kind, spawn_message, spawn_call, detached, effort,
                shares_desktop)
            -- `generated`: nobody asks a model for a better title of what hardly anybody reads.
            VALUES (p_agent, p_part, parent.owner_id, p_title, 'generated',
                parent.system_prompt, coalesce(p_model, parent.model), first_status(true),
                parent.id, coalesce(parent.root_id, parent.id), p_kind, p_message, p_call,
                p_detached, coalesce(p_effort, parent.effort), p_shares_desktop)
            RETURNING * INTO c;
        PERFORM emit(c, 'chat.created', json_build_object(
            'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
        PERFORM append_message(c, 'user', p_content);
    END IF;
    RETURN answer(json_build_object('agent_id', c.id, 'title', c.title, 'model', c.model),
        c.status = 'running' AND c.runner_id IS NULL);
END $$;

CREATE OR REPLACE FUNCTION message_agent(
    p_chat uuid, p_runner text, p_agent uuid, p_content json, p_busy text, p_key text,
    p_max_queued integer
) RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    parent chats := lock_caller(p_chat, p_runner);
BEGIN
    PERFORM check_agents(parent.id, ARRAY[p_agent]);
    RETURN send_message(parent.owner_id, p_agent, p_content, '', p_busy, NULL, p_key, p_max_queued);
END $$;

CREATE OR REPLACE FUNCTION interrupt_agent(p_chat uuid, p_runner text, p_agent uuid, p_key text)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    parent chats := lock_caller(p_chat, p_runner);
    done json;
    result transition_result;
BEGIN
    PERFORM check_agents(parent.id, ARRAY[p_agent]);
    SELECT reply INTO done FROM client_keys WHERE chat_id = p_agent AND client_key = p_key;
    IF FOUND THEN  -- what was started since then is not meant
        RETURN answer(done);
    END IF;
    result := interrupt_chat(parent.owner_id, p_agent);
    result.reply := json_build_object('status',
        (SELECT status FROM chats WHERE id = p_agent));
    INSERT INTO client_keys (chat_id, client_key, reply) VALUES (p_agent, p_key, result.reply);
    RETURN result;
END $$;

-- How far agents are, in the order of the question; one that is gone has no row of its own.
CREATE OR REPLACE FUNCTION agent_states(p_agents uuid[], p_reports boolean)
RETURNS TABLE (
    agent_id text, status text, kind text, title text, outcome text, error json,
    queue_size bigint, archived boolean, cost bigint, report json, screen json, recordings text[]
) LANGUAGE sql STABLE AS $$
    SELECT a.id::text, c.status, c.agent_kind, c.title, c.last_outcome, c.last_error,
            (SELECT count(*) FROM queued_messages q WHERE q.chat_id = c.id), c.archived,
            tree_cost(c),
            CASE WHEN p_reports THEN (
                SELECT coalesce(m.public_content, m.content) FROM messages m
                    WHERE m.chat_id = c.id AND m.role = 'assistant' AND m.deleted_at IS NULL
                        AND m.visibility = 'both' AND m.id > (SELECT coalesce(max(u.id), 0)
                            FROM messages u WHERE u.chat_id = c.id AND u.role = 'user'
                                AND u.visibility = 'both' AND u.deleted_at IS NULL)
                    ORDER BY m.id DESC LIMIT 1) END,
            -- What an agent with a desktop saw last. A picture has no small size: of one agent.
            CASE WHEN p_reports AND cardinality(p_agents) = 1 AND c.agent_kind = 'computer_use'
                THEN (SELECT m.content FROM messages m
                    WHERE m.chat_id = c.id AND m.role = 'tool' AND m.deleted_at IS NULL
                        AND m.content::text LIKE '%"image/%' ORDER BY m.id DESC LIMIT 1) END,
            CASE WHEN p_reports AND c.agent_kind = 'computer_use'
                THEN recordings_of(c.id) ELSE '{}' END
        FROM unnest(p_agents) WITH ORDINALITY AS a(id, n) LEFT JOIN chats c ON c.id = a.id
        ORDER BY a.n
$$;

-- Only for the worker of the chat; `p_agents` empty: all below it, but not what was put away.
CREATE OR REPLACE FUNCTION look_at_agents(p_chat uuid, p_runner text, p_agents uuid[])
RETURNS TABLE (
    agent_id text, status text, kind text, title text, outcome text, error json,
    queue_size bigint, archived boolean, cost bigint, report json, screen json, recordings text[]
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = p_chat AND c.runner_id = p_runner) THEN
        PERFORM refuse('stale_fence', 'the chat has moved on', jsonb_build_object('owned', false));
    END IF;
    PERFORM check_agents(p_chat, p_agents);
    RETURN QUERY SELECT * FROM agent_states(
        CASE WHEN cardinality(p_agents) > 0 THEN p_agents ELSE ARRAY(
            SELECT f.id FROM family(p_chat) f WHERE f.id <> p_chat AND NOT f.archived
                ORDER BY f.created_at, f.id LIMIT 200) END,
        cardinality(p_agents) > 0);
END $$;

-- -- waiting --------------------------------------------------------------------------------------

-- Waits that are over: of one chat, for one agent, or all of them (both NULL).
CREATE OR REPLACE FUNCTION ripe_waits(p_chat uuid, p_agent uuid, p_done text[])
RETURNS TABLE (
    id bigint, chat_id text, call_id text, tool text, agent_ids text[], timed_out boolean
) LANGUAGE sql STABLE AS $$
    SELECT w.id, w.chat_id::text, w.call_id,
            p.action_tools[array_position(p.action_calls, w.call_id)], w.agent_ids::text[],
            NOT ended.met
        FROM waits w JOIN chats p ON p.id = w.chat_id
        CROSS JOIN LATERAL (
            SELECT CASE WHEN w.any_of THEN bool_or(d.done) ELSE bool_and(d.done) END AS met FROM (
                SELECT c.id IS NULL OR c.archived OR c.status = ANY (p_done) AS done
                    FROM unnest(w.agent_ids) AS a(id) LEFT JOIN chats c ON c.id = a.id) d
        ) ended
        WHERE (p_chat IS NULL OR w.chat_id = p_chat)
            AND (p_agent IS NULL
                OR w.chat_id IN (SELECT lineage(p_agent)) AND p_agent = ANY (w.agent_ids))
            AND (ended.met OR w.deadline < clock_timestamp())
        ORDER BY w.id LIMIT 200
$$;

-- The same with what each wait is to be told: one row for each agent, wait by wait, in the order in
-- which the agents were named.
CREATE OR REPLACE FUNCTION ripe_reports(p_chat uuid, p_agent uuid, p_done text[])
RETURNS TABLE (
    wait bigint, chat_id text, call_id text, tool text, timed_out boolean, agent_id text,
    status text, kind text, title text, outcome text, error json, queue_size bigint,
    archived boolean, cost bigint, report json, screen json, recordings text[]
) LANGUAGE sql STABLE AS $$
    SELECT w.id, w.chat_id, w.call_id, w.tool, w.timed_out, s.agent_id, s.status, s.kind, s.title,
            s.outcome, s.error, s.queue_size, s.archived, s.cost, s.report, s.screen,
            s.recordings
        FROM ripe_waits(p_chat, p_agent, p_done) WITH ORDINALITY
            AS w(id, chat_id, call_id, tool, agent_ids, timed_out, n)
        CROSS JOIN LATERAL agent_states(w.agent_ids::uuid[], true) WITH ORDINALITY
            AS s(agent_id, status, kind, title, outcome, error, queue_size, archived, cost, report,
                screen, recordings, m)
        ORDER BY w.n, s.m
$$;

-- Answers a call that waited for agents, unless somebody was faster or the action is over.
CREATE OR REPLACE FUNCTION resolve_wait(p_wait bigint, p_chat uuid, p_result json)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    w waits;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    DELETE FROM waits WHERE id = p_wait AND chat_id = c.id RETURNING * INTO w;
    IF w.id IS NULL THEN
        RETURN answer(NULL);
    END IF;
    PERFORM next_status(c, 'resolve_wait');
    c.action_results[array_position(c.action_calls, w.call_id)] := p_result;
    RETURN action_answered(c, 'resolve_wait');
END $$;

-- -- reaching the agents --------------------------------------------------------------------------

-- Something happened to a chat that its agents share; done afterwards, one by one.
CREATE OR REPLACE FUNCTION begin_cascade(c chats, p_kind text)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO cascades (chat_id, kind)
        SELECT c.id, p_kind
            WHERE EXISTS (SELECT 1 FROM chats a WHERE a.parent_id = c.id AND NOT a.detached)
        ON CONFLICT DO NOTHING
$$;

-- Whom a cascade is about.
CREATE OR REPLACE FUNCTION cascade_targets(p_chat uuid, p_kind text)
RETURNS SETOF chats LANGUAGE sql STABLE AS $$
    SELECT t.* FROM attached(p_chat) t WHERE p_kind <> 'orphans' AND t.id <> p_chat
    UNION ALL
    SELECT t.* FROM chats a
        JOIN messages m ON m.id = a.spawn_message AND m.deleted_at IS NOT NULL
        CROSS JOIN LATERAL attached(a.id) t
        WHERE p_kind = 'orphans' AND a.parent_id = p_chat AND NOT a.detached
$$;

-- Reaches one more agent: ends its turn and empties its queue, or archives it. Without anybody left
-- whom it has to reach, `chat_id` is NULL; what still stops is reached again when it has.
CREATE OR REPLACE FUNCTION cascade_step(
    p_chat uuid, p_kind text, OUT chat_id text, OUT hint boolean, OUT runner_id text,
    OUT control json
) LANGUAGE plpgsql AS $$
DECLARE
    target uuid;
    owner uuid;
    c chats;
    told transition_result;
    archives boolean := p_kind <> 'interrupt';
BEGIN
    hint := false;
    IF p_kind = 'put_away'
        AND NOT coalesce((SELECT archived FROM chats WHERE id = p_chat), true)
    THEN  -- taken back meanwhile
        DELETE FROM cascades k WHERE k.chat_id = p_chat AND k.kind = p_kind;
        RETURN;
    END IF;
    SELECT t.id, t.owner_id INTO target, owner FROM cascade_targets(p_chat, p_kind) t
        WHERE t.status IN ('running', 'requires_action')
            OR archives AND NOT t.archived AND t.status IN ('waiting', 'error')
        LIMIT 1;
    IF target IS NULL THEN
        -- Who is being interrupted for good has still to be archived.
        DELETE FROM cascades k WHERE k.chat_id = p_chat AND k.kind = p_kind AND NOT (archives
            AND EXISTS (SELECT 1 FROM cascade_targets(p_chat, p_kind) t WHERE NOT t.archived));
        RETURN;
    END IF;
    IF archives THEN
        PERFORM lock_pins(owner);  -- before the chat, as everywhere
    END IF;
    SELECT * INTO c FROM chats WHERE id = target FOR UPDATE;
    chat_id := target::text;
    IF c.status IN ('running', 'requires_action') THEN
        DELETE FROM queued_messages q WHERE q.chat_id = c.id;
        IF FOUND THEN  -- or the next one would start the next turn
            c := queue_changed(c);
        END IF;
        told := interrupt_chat(c.owner_id, c.id);
        -- This one reaches those below it as well; later it might meet what was started since.
        DELETE FROM cascades k WHERE k.chat_id = c.id AND k.kind = 'interrupt';
        hint := told.hint;
        runner_id := told.runner_id;
        control := told.control;
    ELSIF archives AND NOT c.archived AND c.status IN ('waiting', 'error') THEN
        PERFORM archive_one(c);
        PERFORM drop_pins(c.owner_id, ARRAY[c.id]);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION archive_one(member chats)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM next_status(member, 'archive');
    UPDATE chats SET archived = true, snapshot_version = snapshot_version + 1, updated_at = now()
        WHERE id = member.id RETURNING * INTO member;
    PERFORM emit(member, 'chat.archived', json_build_object(
        'chat_id', member.id, 'snapshot_version', member.snapshot_version,
        'updated_at', member.updated_at));
END $$;

-- What is left to do after one chat came to rest, or after any (NULL): cascades of it and of those
-- above it, and limits that nobody has been told of (`limit`).
CREATE OR REPLACE FUNCTION family_chores(p_chat uuid)
RETURNS TABLE (chat_id text, kind text) LANGUAGE sql STABLE AS $$
    (SELECT k.chat_id::text, k.kind FROM cascades k
        WHERE p_chat IS NULL OR k.chat_id IN (SELECT lineage(p_chat)) LIMIT 200)
    UNION ALL
    SELECT u.chat_id, 'limit' FROM untold_limits(p_chat) u
$$;

-- The detached agents of a family that is deleted become chats of their own.
CREATE OR REPLACE FUNCTION set_free(p_family uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    PERFORM keep_rules(f.parent_id, f.id) FROM chats f
        WHERE f.parent_id = ANY (p_family) AND f.detached;
    -- What they shared with those above them stays theirs.
    FOR c IN UPDATE chats f SET parent_id = NULL, root_id = NULL, updated_at = now(),
            workspace_id = coalesce(f.workspace_id, (SELECT r.workspace_id FROM chats r
                WHERE r.id = coalesce(f.root_id, f.parent_id))),
            mcp_server_ids = chosen_mcp_servers(f)
        WHERE f.parent_id = ANY (p_family) AND f.detached RETURNING f.*
    LOOP
        UPDATE chats SET root_id = c.id
            WHERE id IN (SELECT f.id FROM family(c.id) f WHERE f.id <> c.id);
        PERFORM touch_chat(c);
    END LOOP;
END $$;
