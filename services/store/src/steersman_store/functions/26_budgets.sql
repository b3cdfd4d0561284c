-- Limits of turns, and what is used of them: a chat and all agents below it share the chat's limits.
--
-- A step is added to its chat and to those above it, in the transaction that commits it. The row of
-- a chat above is not locked for that (locks go down a tree and never up), and its sum lies in
-- several rows: agents that commit at the same time hardly ever meet.

CREATE OR REPLACE FUNCTION record_spending(c chats, p_steps integer, p_usage json, p_cost bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    own_slot smallint := get_byte(uuid_send(c.id), 15) % 16;
    -- Cached input counts as well; reasoning is part of the output.
    used bigint := tokens_of(p_usage, 'input_tokens') + tokens_of(p_usage, 'output_tokens');
    counted uuid[] := ARRAY[c.id];
BEGIN
    IF c.parent_id IS NOT NULL THEN
        counted := ARRAY(SELECT a.id FROM lineage(c.id) WITH ORDINALITY AS a(id, n)
            ORDER BY a.n DESC);  -- from above, always: nobody waits in a circle
    END IF;
    FOR n IN 1 .. cardinality(counted) LOOP
        INSERT INTO spending AS s (chat_id, slot, steps, tokens, cost)
            VALUES (counted[n], own_slot, p_steps, used, coalesce(p_cost, 0))
            ON CONFLICT (chat_id, slot) DO UPDATE SET steps = s.steps + excluded.steps,
                tokens = s.tokens + excluded.tokens, cost = s.cost + excluded.cost;
    END LOOP;
END $$;

-- Steps, tokens and cost.
CREATE OR REPLACE FUNCTION spent_by(p_chat uuid)
RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT ARRAY[coalesce(sum(steps), 0), coalesce(sum(tokens), 0), coalesce(sum(cost), 0)]
        FROM spending WHERE chat_id = p_chat);
END $$;

-- The first limit of this chat that its present turn has reached; NULL for none.
CREATE OR REPLACE FUNCTION own_limit_reached(c chats)
RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    began timestamptz;
    before bigint[];
    spent bigint[];
BEGIN
    IF c.limits IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT created_at, coalesce(spent_before, '{0,0,0}') INTO began, before FROM messages
        WHERE chat_id = c.id AND role = 'user' AND visibility = 'both' AND deleted_at IS NULL
        ORDER BY id DESC LIMIT 1;
    IF began IS NULL THEN
        RETURN NULL;
    END IF;
    spent := spent_by(c.id);
    RETURN (SELECT jsonb_build_object('kind', u.kind, 'limit', u.most, 'used', u.used) FROM (VALUES
            (1, 'steps', (c.limits ->> 'steps')::bigint, spent[1] - before[1]),
            (2, 'tokens', (c.limits ->> 'tokens')::bigint, spent[2] - before[2]),
            (3, 'cost_micros', (c.limits ->> 'cost_micros')::bigint, spent[3] - before[3]),
            (4, 'wall_s', (c.limits ->> 'wall_s')::bigint,
                floor(extract(epoch FROM clock_timestamp() - began))::bigint)
        ) AS u(n, kind, most, used) WHERE u.used >= u.most ORDER BY u.n LIMIT 1);
END $$;

-- The same, or the nearest above it: that one has the id of its chat.
CREATE OR REPLACE FUNCTION reached_limit(c chats)
RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    reached jsonb := own_limit_reached(c);
    above chats;
BEGIN
    IF reached IS NOT NULL OR c.parent_id IS NULL THEN
        RETURN reached;
    END IF;
    FOR above IN SELECT p.* FROM lineage(c.id) WITH ORDINALITY AS a(id, n)
        JOIN chats p ON p.id = a.id WHERE p.id <> c.id AND p.limits IS NOT NULL ORDER BY a.n
    LOOP
        reached := own_limit_reached(above);
        IF reached IS NOT NULL THEN
            RETURN reached || jsonb_build_object('chat_id', above.id);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- -- agents at a limit of a chat above ------------------------------------------------------------

-- Chats that wait and do not say yet that agents wait at a limit of theirs: because of one chat (it
-- has the limit, or stands at it), or all of them (NULL).
CREATE OR REPLACE FUNCTION untold_limits(p_chat uuid)
RETURNS TABLE (chat_id text) LANGUAGE sql STABLE AS $$
    SELECT DISTINCT r.id::text FROM chats a
        JOIN chats r ON r.id = (a.limit_reached ->> 'chat_id')::uuid
        WHERE a.status = 'requires_action' AND a.limit_reached IS NOT NULL
            AND r.status = 'requires_action' AND r.limit_reached IS NULL
            AND (p_chat IS NULL OR p_chat IN (a.id, r.id))
$$;

-- Returns whether the chat says so now: whoever watches it learns that a person is needed.
CREATE OR REPLACE FUNCTION tell_of_limit(p_chat uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    reached jsonb;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL OR c.status <> 'requires_action' OR c.limit_reached IS NOT NULL THEN
        RETURN false;
    END IF;
    reached := own_limit_reached(c);
    IF reached IS NULL THEN
        RETURN false;
    END IF;
    PERFORM next_status(c, 'update');
    UPDATE chats SET limit_reached = reached::json, snapshot_version = snapshot_version + 1,
            updated_at = now()
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'action.required', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'action', action_json(c)));
    RETURN true;
END $$;

-- Lets one agent go on whose limit above is not reached any more: it was raised, or another turn has
-- begun. One that waits at the limit of a chat, or this very one, or any (NULL); without such an
-- agent, `chat_id` is NULL.
CREATE OR REPLACE FUNCTION resume_agent(p_chat uuid, OUT chat_id text)
LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT a.* INTO c FROM chats a
        WHERE a.status = 'requires_action' AND a.limit_reached IS NOT NULL
            AND a.limit_reached ->> 'chat_id' IS NOT NULL
            AND (p_chat IS NULL OR p_chat::text IN (a.id::text, a.limit_reached ->> 'chat_id'))
            AND NOT EXISTS (SELECT 1 FROM chats r
                WHERE r.id = (a.limit_reached ->> 'chat_id')::uuid
                    AND own_limit_reached(r) IS NOT NULL)
        ORDER BY a.id LIMIT 1 FOR UPDATE OF a SKIP LOCKED;
    IF c.id IS NOT NULL THEN
        c := resume_turn(c);
        chat_id := c.id::text;
    END IF;
END $$;

-- A turn that waited at a limit goes on, and looks again.
CREATE OR REPLACE FUNCTION resume_turn(c chats)
RETURNS chats LANGUAGE plpgsql AS $$
BEGIN
    UPDATE chats SET snapshot_version = snapshot_version + 1, updated_at = now(),
            status = next_status(c, 'resume'), action_pending = NULL, action_expires_at = NULL,
            limit_reached = NULL
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit_status(c);
    RETURN c;
END $$;

-- Paused agents keep their place below a chat whose limits change: see `resume_agent`.
CREATE OR REPLACE FUNCTION set_limits(p_actor uuid, p_chat uuid, p_limits json)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
    paused boolean := c.status = 'requires_action' AND c.action_calls IS NULL;
BEGIN
    PERFORM next_status(c, 'update');
    UPDATE chats SET snapshot_version = snapshot_version + 1, updated_at = now(),
            limits = p_limits, limit_reached = NULL,
            status = CASE WHEN paused THEN next_status(c, 'resume') ELSE status END,
            action_pending = CASE WHEN paused THEN NULL ELSE action_pending END,
            action_expires_at = CASE WHEN paused THEN NULL ELSE action_expires_at END
        WHERE id = c.id RETURNING * INTO c;
    PERFORM emit(c, 'chat.updated', json_build_object(
        'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
    IF paused THEN
        PERFORM emit_status(c);
    END IF;
    RETURN answer(json_build_object('chat', chat_json(c)), paused);
END $$;
