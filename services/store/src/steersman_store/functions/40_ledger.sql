-- Tool calls: each key is given out once. Every function is one round trip.

-- `p_first`: whoever stored the calls asks, and nobody before. That takes the key without waiting for
-- the disk: a crash may lose it. Of a call that was stored in an era (`p_era`) which has ended since,
-- nobody else can say whether it has begun, unless it is in the book (decision 59).
CREATE OR REPLACE FUNCTION reserve_call(
    p_chat uuid, p_call text, p_epoch bigint, p_host text, p_fingerprint text, p_running boolean,
    p_repeatable boolean, p_lost bytea, p_first boolean, p_era text,
    OUT yours boolean, OUT at_host text, OUT answer bytea
) LANGUAGE plpgsql AS $$
DECLARE
    t tool_calls;
    wanted text := CASE WHEN p_running THEN 'running' ELSE 'reserved' END;
    lost boolean := false;
BEGIN
    yours := false;
    IF p_era IS NOT NULL AND NOT p_first AND NOT p_repeatable THEN
        lost := p_era <> current_era();
    END IF;
    INSERT INTO tool_calls (chat_id, call_id, epoch, state, fingerprint, host, result, finished_at)
        VALUES (p_chat, p_call, p_epoch, CASE WHEN lost THEN 'unknown' ELSE wanted END,
            p_fingerprint, p_host, CASE WHEN lost THEN p_lost END,
            CASE WHEN lost THEN clock_timestamp() END)
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
        yours := NOT lost;
        answer := CASE WHEN lost THEN p_lost END;
        IF p_first AND p_era IS NOT NULL THEN
            PERFORM set_config('synchronous_commit', 'off', true);
        END IF;
        RETURN;
    END IF;
    SELECT * INTO t FROM tool_calls
        WHERE chat_id = p_chat AND call_id = p_call AND epoch = p_epoch FOR UPDATE;
    IF t.chat_id IS NULL THEN  -- swept in between
        PERFORM refuse('unavailable', 'the ledger was being swept; ask again', '{}');
    END IF;
    IF t.fingerprint <> p_fingerprint THEN
        PERFORM refuse('conflict',
            format('call %L was asked for with another tool or other arguments', p_call),
            jsonb_build_object('call_id', p_call));
    END IF;
    IF t.state IN ('done', 'unknown') THEN
        answer := t.result;
        RETURN;
    END IF;
    IF t.host <> p_host AND host_lives(t.host) THEN
        at_host := t.host;
        RETURN;
    END IF;
    -- A host asks for its own call only when the reply to its first question was lost.
    IF t.host = p_host OR t.state = 'reserved' OR p_repeatable THEN
        UPDATE tool_calls SET state = wanted, host = p_host
            WHERE chat_id = p_chat AND call_id = p_call AND epoch = p_epoch;
        yours := true;
        RETURN;
    END IF;
    UPDATE tool_calls SET state = 'unknown', result = p_lost, finished_at = clock_timestamp()
        WHERE chat_id = p_chat AND call_id = p_call AND epoch = p_epoch;
    answer := p_lost;
END $$;

-- A host that could not renew because PostgreSQL itself was away has not died of that.
CREATE OR REPLACE FUNCTION host_lives(p_host text)
RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (
        SELECT 1 FROM tool_hosts WHERE host = p_host AND greatest(
            expires_at, pg_postmaster_start_time() + interval '5 seconds') > clock_timestamp())
$$;

CREATE OR REPLACE FUNCTION start_call(p_chat uuid, p_call text, p_epoch bigint, p_host text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tool_calls SET state = 'running'
        WHERE chat_id = p_chat AND call_id = p_call AND epoch = p_epoch AND host = p_host
            AND state IN ('reserved', 'running');
    RETURN FOUND;
END $$;

-- Returns whether all of them were still the host's.
CREATE OR REPLACE FUNCTION finish_calls(
    p_chats uuid[], p_calls text[], p_epochs bigint[], p_results bytea[], p_host text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    taken integer;
BEGIN
    -- Nobody waits for the disk: the commit of the step comes right after, and takes this along. If
    -- PostgreSQL dies before, the host still has the result; if both die, nothing is known of it.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE tool_calls t SET state = 'done', result = e.result, finished_at = clock_timestamp()
        FROM unnest(p_chats, p_calls, p_epochs, p_results) AS e(chat_id, call_id, epoch, result)
        WHERE t.chat_id = e.chat_id AND t.call_id = e.call_id AND t.epoch = e.epoch
            AND t.host = p_host AND t.state <> 'unknown';
    GET DIAGNOSTICS taken = ROW_COUNT;
    RETURN taken = cardinality(p_calls);
END $$;

CREATE OR REPLACE FUNCTION refuse_call(p_chat uuid, p_call text, p_epoch bigint, p_result bytea)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO tool_calls (chat_id, call_id, epoch, state, result, finished_at)
        VALUES (p_chat, p_call, p_epoch, 'done', p_result, clock_timestamp())
        ON CONFLICT DO NOTHING
$$;

CREATE OR REPLACE FUNCTION renew_tool_host(p_host text, p_lease_s double precision)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO tool_hosts (host, expires_at)
        VALUES (p_host, clock_timestamp() + make_interval(secs => p_lease_s))
        ON CONFLICT (host) DO UPDATE SET expires_at = excluded.expires_at
$$;

-- Results are kept for a day, and not longer than their chat. A call may run for hours: one that
-- has not ended goes when its host has.
CREATE OR REPLACE FUNCTION sweep_tool_calls(p_most integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    swept integer;
BEGIN
    DELETE FROM tool_calls t USING (
        SELECT s.chat_id, s.call_id, s.epoch FROM tool_calls s
            WHERE s.created_at < clock_timestamp() - interval '5 minutes' AND (
                s.finished_at < clock_timestamp() - interval '1 day'
                OR s.finished_at IS NULL AND s.created_at < clock_timestamp() - interval '1 day'
                    AND NOT host_lives(s.host)
                OR NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = s.chat_id)
                    AND (s.finished_at IS NOT NULL OR NOT host_lives(s.host)))
            ORDER BY s.created_at LIMIT p_most FOR UPDATE SKIP LOCKED) old
        WHERE t.chat_id = old.chat_id AND t.call_id = old.call_id AND t.epoch = old.epoch;
    GET DIAGNOSTICS swept = ROW_COUNT;
    DELETE FROM tool_hosts h WHERE h.expires_at < clock_timestamp() - interval '1 day'
        AND NOT EXISTS (SELECT 1 FROM tool_calls t WHERE t.host = h.host AND t.finished_at IS NULL);
    RETURN swept;
END $$;
