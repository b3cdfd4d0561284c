-- Transitions of the worker that owns a chat. Every write is fenced.

DROP TYPE IF EXISTS worker_result CASCADE;
CREATE TYPE worker_result AS (
    chat json,           -- OwnedChat without its model
    messages json,
    complete boolean,
    released boolean,
    model text,          -- the rest says how to reach it
    provider_id text,
    provider_type text,
    model_id text,
    base_url text,
    api_key bytea,
    context_limit integer,
    max_output_tokens integer,
    tools boolean,
    disabled text,       -- why it cannot be called
    headers bytea,
    settings json,
    region text,
    project text,
    reached boolean,     -- a call to its address has succeeded
    summary_limit integer  -- of the model that writes its summaries, if that is another
);

DROP TYPE IF EXISTS new_messages CASCADE;
CREATE TYPE new_messages AS (
    roles text[], visibilities text[], contents text[], publics text[], models text[],
    usages text[], stops text[], response_ids text[]
);

-- The row has just opened an episode, in the transaction of another transition.
CREATE OR REPLACE FUNCTION emit_attempt(c chats)
RETURNS void LANGUAGE sql AS $$
    SELECT emit(c, 'attempt.started', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version,
        'history_version', c.history_version, 'attempt', c.generation_attempt, 'model', c.model))
$$;

-- Whether the history ends with something that the model has to answer.
CREATE OR REPLACE FUNCTION awaits_model(p_chat uuid)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT role IN ('user', 'tool') AND boundary IS DISTINCT FROM 'summary-at-rest' FROM messages
        WHERE chat_id = p_chat AND deleted_at IS NULL AND visibility <> 'user'
        ORDER BY id DESC LIMIT 1
$$;

CREATE OR REPLACE FUNCTION owned_result(
    c chats, p_messages json, p_complete boolean, p_begun boolean DEFAULT false
) RETURNS worker_result LANGUAGE plpgsql STABLE AS $$
DECLARE
    r worker_result;
BEGIN
    r.chat := json_build_object(
        'chat_id', c.id, 'owner_id', c.owner_id, 'status', c.status,
        'snapshot_version', c.snapshot_version, 'history_version', c.history_version,
        'generation_attempt', c.generation_attempt, 'system_prompt', c.system_prompt,
        'effort', c.effort, 'steps', c.steps, 'attempt_started_at', c.attempt_started_at,
        'client_tools', c.client_tools, 'begun', p_begun,
        'compaction_requested', c.compaction_requested,
        'parent_id', c.parent_id, 'agent_kind', c.agent_kind,
        'depth', depth_of(c),
        'calls_era', c.calls_era,
        'approved', CASE WHEN c.action_decisions IS NULL THEN '[]'::json ELSE (
            SELECT coalesce(json_agg(c.action_calls[i]), '[]')
                FROM generate_subscripts(c.action_calls, 1) AS i
                WHERE c.action_decisions[i] = 'approved') END,
        'results', CASE WHEN c.action_results IS NULL THEN '[]'::json ELSE (
            SELECT coalesce(json_agg(c.action_results[i] ORDER BY i), '[]')
                FROM generate_subscripts(c.action_results, 1) AS i
                WHERE c.action_results[i] IS NOT NULL) END,
        'policies', policies_of(c), 'grants', grants_of(c),
        'facts', CASE WHEN EXISTS (SELECT 1 FROM policies) THEN rule_facts(c) END,
        'has_own_tools', CASE WHEN EXISTS (SELECT 1 FROM mcp_servers)
            THEN EXISTS (SELECT 1 FROM mcp_servers_of(c)) ELSE false END,
        'no_workspace', c.parent_id IS NULL AND c.workspace_id IS NULL,
        'terms', chat_terms(c));
    r.messages := p_messages;
    r.complete := p_complete;
    r.released := c.runner_id IS NULL;
    r.model := c.model;
    SELECT m.provider_id, p.type, m.model_id, p.base_url, p.api_key, m.context_limit,
            m.max_output_tokens, m.tools, obstacle(m, p), p.headers, m.settings, p.region,
            p.project, p.unreached_since IS NULL
        INTO r.provider_id, r.provider_type, r.model_id, r.base_url, r.api_key, r.context_limit,
            r.max_output_tokens, r.tools, r.disabled, r.headers, r.settings, r.region, r.project,
            r.reached
        FROM models m JOIN providers p ON p.id = m.provider_id WHERE m.name = c.model;
    IF r.settings ->> 'compaction_model' IS NOT NULL THEN
        SELECT context_limit INTO r.summary_limit FROM models
            WHERE name = r.settings ->> 'compaction_model';
    END IF;
    RETURN r;
END $$;

-- What changed after a revision (and id), as much as fits one reply. With nothing known, messages
-- that were deleted are left out; otherwise they come as tombstones.
CREATE OR REPLACE FUNCTION changed_messages(
    p_chat uuid, p_revision bigint, p_id bigint, p_max_bytes bigint,
    OUT page json, OUT complete boolean
) LANGUAGE sql STABLE AS $$
    WITH sized AS (
        SELECT m, sum(m.size + 300) OVER (ORDER BY m.revision, m.id) AS total,
                row_number() OVER (ORDER BY m.revision, m.id) AS n
            FROM messages m
            WHERE m.chat_id = p_chat AND (m.revision, m.id) > (p_revision, p_id)
                AND (p_revision > 0 OR m.deleted_at IS NULL)
    )
    SELECT coalesce(json_agg(message_json(m, true) ORDER BY n)
            FILTER (WHERE n = 1 OR total <= p_max_bytes), '[]'),
        coalesce(bool_and(n = 1 OR total <= p_max_bytes), true)
        FROM sized
$$;

CREATE OR REPLACE FUNCTION acquire(
    p_chat uuid, p_runner text, p_lease_s double precision, p_known bigint, p_max_bytes bigint,
    p_begin boolean
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    page json;
    complete boolean;
    begins boolean;
    lost boolean := false;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL THEN
        PERFORM refuse('not_found', 'no such chat', jsonb_build_object('chat_id', p_chat));
    END IF;
    PERFORM next_status(c, 'acquire');
    IF c.runner_id <> p_runner AND EXISTS (
        SELECT 1 FROM leases l WHERE l.chat_id = c.id AND l.runner_id = c.runner_id
            AND l.expires_at > clock_timestamp())
    THEN
        PERFORM refuse('already_owned', 'another worker holds a live lease');
    END IF;
    -- Who gives a chat back takes its name off it: this one died, in the middle of an attempt.
    IF c.status = 'running' AND c.runner_id <> p_runner AND c.attempt_started_at IS NOT NULL THEN
        lost := count_lost_attempt(c);
    END IF;
    begins := p_begin AND c.status = 'running' AND NOT c.compaction_requested
        AND coalesce(awaits_model(c.id), false);
    UPDATE chats SET runner_id = p_runner, snapshot_version = snapshot_version + 1,
            generation_attempt = generation_attempt + begins::integer,
            attempt_started_at = CASE WHEN begins THEN clock_timestamp() ELSE attempt_started_at END
        WHERE id = c.id RETURNING * INTO c;
    IF begins THEN
        PERFORM emit_attempt(c);
    END IF;
    IF lost THEN
        PERFORM chat_updated(c);
    END IF;
    DELETE FROM leases WHERE chat_id = c.id AND runner_id <> p_runner;
    INSERT INTO leases (chat_id, runner_id, expires_at)
        VALUES (c.id, p_runner, clock_timestamp() + make_interval(secs => p_lease_s))
        ON CONFLICT (chat_id, runner_id) DO UPDATE SET expires_at = excluded.expires_at;
    SELECT f.page, f.complete INTO page, complete
        FROM changed_messages(c.id, p_known, CASE WHEN p_known > 0 THEN 9223372036854775807 ELSE 0 END,
            p_max_bytes) f;
    RETURN owned_result(c, page, complete, begins);
END $$;

CREATE OR REPLACE FUNCTION load_history(
    p_chat uuid, p_runner text, p_revision bigint, p_id bigint, p_max_bytes bigint
) RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    result json;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM chats WHERE id = p_chat AND runner_id = p_runner) THEN
        PERFORM refuse('stale_fence', 'the chat has moved on', jsonb_build_object('owned', false));
    END IF;
    SELECT json_build_object('messages', f.page, 'complete', f.complete) INTO result
        FROM changed_messages(p_chat, p_revision, p_id, p_max_bytes) f;
    RETURN result;
END $$;

CREATE OR REPLACE FUNCTION begin_attempt(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
BEGIN
    PERFORM next_status(c, 'begin_attempt');
    UPDATE chats SET snapshot_version = snapshot_version + 1,
            generation_attempt = generation_attempt + 1, attempt_started_at = clock_timestamp()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit_attempt(c);
    RETURN json_build_object(
        'attempt', c.generation_attempt, 'snapshot_version', c.snapshot_version);
END $$;

CREATE OR REPLACE FUNCTION record_retry(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_attempt integer,
    p_delay_ms integer, p_kind text, p_message text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
    retrying_at timestamptz := clock_timestamp() + make_interval(secs => p_delay_ms / 1000.0);
BEGIN
    PERFORM next_status(c, 'record_retry');
    UPDATE chats SET snapshot_version = snapshot_version + 1, attempt_started_at = NULL,
            retry_history = history_version,
            retry = json_build_object('attempt', p_attempt, 'delay_ms', p_delay_ms,
                'retrying_at', retrying_at, 'kind', p_kind, 'message', p_message)
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'retry.scheduled', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version,
        'history_version', c.history_version, 'attempt', p_attempt, 'delay_ms', p_delay_ms,
        'retrying_at', retrying_at, 'kind', p_kind, 'message', p_message));
END $$;

-- Appends what a worker produced; the history is at a new version from here on.
CREATE OR REPLACE FUNCTION append_all(c chats, p_new new_messages)
RETURNS json[] LANGUAGE plpgsql AS $$
DECLARE
    appended json[] := '{}';
BEGIN
    FOR i IN 1 .. coalesce(array_length(p_new.roles, 1), 0) LOOP
        appended := appended || message_json(append_message(
            c, p_new.roles[i], p_new.contents[i]::json, p_new.publics[i]::json,
            p_new.visibilities[i], p_new.models[i], p_new.usages[i]::json, p_new.stops[i],
            p_response_id => p_new.response_ids[i]), true);
    END LOOP;
    RETURN appended;
END $$;

CREATE OR REPLACE FUNCTION count_steps(p_new new_messages)
RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT count(*)::integer FROM unnest(p_new.roles) AS r WHERE r = 'assistant'
$$;

CREATE OR REPLACE FUNCTION commit_step(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_new new_messages,
    p_begin boolean
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
    appended json[];
BEGIN
    UPDATE chats SET status = next_status(c, 'commit_step'),
            snapshot_version = snapshot_version + 1, history_version = snapshot_version + 1,
            generation_attempt = p_begin::integer,
            attempt_started_at = CASE WHEN p_begin THEN clock_timestamp() END,
            action_calls = NULL, action_tools = NULL, action_results = NULL, action_pending = NULL,
            action_asks = NULL, action_decisions = NULL,
            calls_era = CASE WHEN NOT p_begin THEN current_era() END,
            steps = steps + count_steps(p_new), updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    appended := append_all(c, p_new);
    IF p_begin THEN
        PERFORM emit_attempt(c);
    END IF;
    RETURN owned_result(c, array_to_json(appended), true, p_begin);
END $$;

-- The end of a turn, however it ended: `p_transition` is finish_turn or finish_interruption.
CREATE OR REPLACE FUNCTION end_turn(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_new new_messages,
    p_transition text, p_outcome text, p_begin boolean
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
    -- A summary that was asked for meanwhile is written before anything is promoted.
    compacts boolean := c.compaction_requested AND p_transition = 'finish_turn';
    backlog boolean := NOT compacts
        AND EXISTS (SELECT 1 FROM queued_messages WHERE chat_id = c.id);
    wanted text := next_status(c, p_transition, backlog OR compacts);
    appended json[];
    changes boolean := backlog OR coalesce(array_length(p_new.roles, 1), 0) > 0;
BEGIN
    UPDATE chats SET status = wanted, snapshot_version = snapshot_version + 1,
            history_version = CASE WHEN changes THEN snapshot_version + 1 ELSE history_version END,
            queue_version = CASE WHEN backlog THEN snapshot_version + 1 ELSE queue_version END,
            -- Counted on within one history version: no episode is ever opened twice.
            generation_attempt = CASE WHEN changes THEN (backlog AND p_begin)::integer
                ELSE generation_attempt END,
            attempt_started_at = CASE WHEN backlog AND p_begin THEN clock_timestamp() END,
            retry_history = NULL,
            last_outcome = p_outcome,
            steps = CASE WHEN backlog THEN 0 ELSE steps + count_steps(p_new) END,
            runner_id = CASE WHEN backlog OR compacts THEN runner_id END,
            action_calls = NULL, action_tools = NULL, action_results = NULL, action_pending = NULL,
            action_asks = NULL, action_decisions = NULL, compaction_requested = compacts,
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    appended := append_all(c, p_new);
    PERFORM emit_status(c, p_outcome);
    IF backlog THEN
        appended := appended || message_json(promote_head(c), true);
        PERFORM emit_queue(c);
        SELECT model, effort, turn_schema INTO c.model, c.effort, c.turn_schema
            FROM chats WHERE id = c.id;
        IF p_begin THEN
            PERFORM emit_attempt(c);
        END IF;
    ELSIF NOT compacts THEN
        DELETE FROM leases WHERE chat_id = c.id;
    END IF;
    RETURN owned_result(c, array_to_json(appended), true, backlog AND p_begin);
END $$;

CREATE OR REPLACE FUNCTION finish_error(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_new new_messages,
    p_error json
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
    appended json[];
    changes boolean := coalesce(array_length(p_new.roles, 1), 0) > 0;
BEGIN
    UPDATE chats SET status = next_status(c, 'finish_error'),
            snapshot_version = snapshot_version + 1,
            history_version = CASE WHEN changes THEN snapshot_version + 1 ELSE history_version END,
            generation_attempt = CASE WHEN changes THEN 0 ELSE generation_attempt END,
            attempt_started_at = NULL, retry_history = NULL, last_outcome = 'error',
            last_error = p_error, steps = steps + count_steps(p_new), runner_id = NULL,
            action_calls = NULL, action_tools = NULL, action_results = NULL, action_pending = NULL,
            action_asks = NULL, action_decisions = NULL, compaction_requested = false,
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    appended := append_all(c, p_new);
    PERFORM emit(c, 'chat.error', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'error', p_error));
    PERFORM emit_status(c, 'error');
    DELETE FROM leases WHERE chat_id = c.id;
    RETURN owned_result(c, array_to_json(appended), true);
END $$;

-- Waits for results of client-side tools, for approvals and for agents. Of each call, `p_results`
-- has what is there, and `p_asks` the question to a person. `p_agents` are ids, with commas.
CREATE OR REPLACE FUNCTION enter_requires_action(
    p_chat uuid, p_runner text, p_history_version bigint, p_status text, p_calls text[],
    p_tools text[], p_results text[], p_asks text[], p_pending json,
    p_expires_s double precision, p_waits text[], p_agents text[], p_any boolean[],
    p_waits_s double precision[]
) RETURNS worker_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_fenced(p_chat, p_runner, p_history_version, p_status);
BEGIN
    -- The time that agents have is their callers' to say: nothing else may end before it.
    SELECT greatest(p_expires_s, max(s) + 60) INTO p_expires_s FROM unnest(p_waits_s) AS s;
    UPDATE chats SET status = next_status(c, 'enter_requires_action'),
            snapshot_version = snapshot_version + 1, attempt_started_at = NULL,
            retry_history = NULL, runner_id = NULL, action_calls = p_calls,
            action_tools = p_tools, action_results = p_results::json[], action_pending = p_pending,
            action_asks = p_asks::json[], limit_reached = NULL,
            calls_era = NULL,  -- those that are left were not begun
            action_decisions = array_fill(NULL::text, ARRAY[cardinality(p_calls)]),
            action_expires_at = clock_timestamp() + make_interval(secs => p_expires_s),
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    INSERT INTO waits (chat_id, call_id, agent_ids, any_of, deadline)
        SELECT c.id, w.call_id, string_to_array(w.agents, ',')::uuid[], w.any_of,
                clock_timestamp() + make_interval(secs => w.wait_s)
            FROM unnest(p_waits, p_agents, p_any, p_waits_s) AS w(call_id, agents, any_of, wait_s)
        ON CONFLICT DO NOTHING;
    PERFORM emit(c, 'action.required', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'action', action_json(c)));
    PERFORM emit_status(c);
    DELETE FROM leases WHERE chat_id = c.id;
    RETURN owned_result(c, '[]', true);
END $$;

-- Ends one action that nobody answered in time; returns its chat, and whether it is runnable now.
CREATE OR REPLACE FUNCTION expire_action(OUT chat_id uuid, OUT runnable boolean)
LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    n integer;
BEGIN
    SELECT * INTO c FROM chats
        WHERE status = 'requires_action' AND action_expires_at < clock_timestamp()
        ORDER BY action_expires_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF c.id IS NOT NULL THEN
        -- Nobody has decided: that is a refusal, and in the book like every other.
        FOR n IN SELECT i FROM generate_subscripts(c.action_asks, 1) AS i
            WHERE c.action_asks[i] IS NOT NULL AND c.action_decisions[i] IS NULL
        LOOP
            PERFORM record_audit(NULL, c.id, 'approval.expired', json_build_object(
                'call_id', c.action_calls[n], 'tool', c.action_tools[n],
                'asked', c.action_asks[n]));
        END LOOP;
        c := end_action(c, 'cancel_requires_action', 'action_expired',
            'nobody answered this call in time');
        chat_id := c.id;
        runnable := c.status = 'running';
    END IF;
END $$;

-- Returns whether the caller was the owner; the chat then wants another worker.
CREATE OR REPLACE FUNCTION abandon(p_chat uuid, p_runner text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat AND runner_id = p_runner FOR UPDATE;
    IF c.id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM next_status(c, 'abandon');
    UPDATE chats SET runner_id = NULL, snapshot_version = snapshot_version + 1 WHERE id = c.id;
    DELETE FROM leases WHERE chat_id = c.id AND runner_id = p_runner;
    RETURN true;
END $$;

-- A lease that is there is only moved on: one that a transition deletes meanwhile stays deleted. One
-- that is missing (PostgreSQL has crashed: the table is unlogged) is made under the lock of its chat,
-- whose status is looked at again there; a chat that is busy just now gets it with the next renewal.
CREATE OR REPLACE FUNCTION renew_leases(p_runner text, p_chats uuid[], p_lease_s double precision)
RETURNS json LANGUAGE sql AS $$
    WITH mine AS (
        SELECT id, status, history_version FROM chats
            WHERE id = ANY (p_chats) AND runner_id = p_runner
                AND status IN ('running', 'interrupting')
    ), renewed AS (
        UPDATE leases l SET expires_at = clock_timestamp() + make_interval(secs => p_lease_s)
            FROM mine WHERE l.chat_id = mine.id AND l.runner_id = p_runner
    ), missing AS (
        SELECT c.id FROM chats c
            WHERE c.id = ANY (p_chats) AND c.runner_id = p_runner
                AND c.status IN ('running', 'interrupting')
                AND NOT EXISTS (
                    SELECT 1 FROM leases l WHERE l.chat_id = c.id AND l.runner_id = p_runner)
            FOR SHARE OF c SKIP LOCKED
    ), made AS (
        INSERT INTO leases (chat_id, runner_id, expires_at)
            SELECT id, p_runner, clock_timestamp() + make_interval(secs => p_lease_s) FROM missing
            ON CONFLICT DO NOTHING
    )
    SELECT json_build_object('held', coalesce(json_agg(json_build_object(
        'chat_id', id, 'status', status, 'history_version', history_version)), '[]')) FROM mine
$$;

-- Runnable chats that nobody works on, and the leases of the dead.
CREATE OR REPLACE FUNCTION sweep_leases(p_limit integer)
RETURNS SETOF uuid LANGUAGE sql AS $$
    DELETE FROM leases WHERE expires_at < clock_timestamp() - interval '1 minute';
    SELECT c.id FROM chats c
        WHERE c.status IN ('running', 'interrupting') AND NOT EXISTS (
            SELECT 1 FROM leases l WHERE l.chat_id = c.id AND l.runner_id = c.runner_id
                AND l.expires_at > clock_timestamp())
        ORDER BY c.updated_at LIMIT p_limit
$$;
