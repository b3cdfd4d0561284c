-- What models used beside the steps of turns, such as for a title. It costs like any step and is
-- counted in the same sums, but it is no step.

CREATE OR REPLACE FUNCTION record_side_usage(
    c chats, p_purpose text, p_model text, p_usage json, p_history_version bigint DEFAULT NULL,
    p_attempt integer DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    spent bigint := cost_at(p_model, p_usage);
BEGIN
    INSERT INTO side_usage (chat_id, user_id, purpose, model, usage, history_version, attempt)
        VALUES (c.id, c.owner_id, p_purpose, p_model, p_usage, p_history_version, p_attempt);
    PERFORM record_usage(c, p_model, p_usage, spent);
    UPDATE usage_days SET steps = steps - 1
        WHERE chat_id = c.id AND day = (now() AT TIME ZONE 'UTC')::date AND model = p_model;
END $$;

-- The attempt that a worker had open when it died: its provider is paid, nobody knows how much.
CREATE OR REPLACE FUNCTION count_lost_attempt(c chats)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM side_usage s WHERE s.chat_id = c.id
            AND s.history_version = c.history_version AND s.attempt = c.generation_attempt)
    THEN
        RETURN false;
    END IF;
    PERFORM record_side_usage(
        c, 'attempt', c.model, NULL, c.history_version, c.generation_attempt);
    RETURN true;
END $$;

-- What an attempt has used of which nothing is stored: one that was tried again, a summary that came
-- to nothing. It counts to the limits of the turn as well; once, however often it is told.
CREATE OR REPLACE FUNCTION count_attempt(
    p_chat uuid, p_history_version bigint, p_attempt integer, p_purpose text, p_model text,
    p_usage json
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL OR EXISTS (SELECT 1 FROM side_usage s WHERE s.chat_id = c.id
            AND s.history_version = p_history_version AND s.attempt = p_attempt)
    THEN
        RETURN false;
    END IF;
    PERFORM record_side_usage(c, p_purpose, p_model, p_usage, p_history_version, p_attempt);
    PERFORM record_spending(c, 0, p_usage, cost_at(p_model, p_usage));
    IF NOT c.archived THEN
        PERFORM touch_chat(c);
    END IF;
    RETURN true;
END $$;
