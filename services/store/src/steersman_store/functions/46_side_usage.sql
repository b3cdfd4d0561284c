-- What models used beside the steps of turns, such as for a title. It costs like any step and is
-- counted in the same sums, but it is no step.

CREATE OR REPLACE FUNCTION record_side_usage(
    c chats, p_purpose text, p_model text, p_usage json
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    spent bigint := cost_at(p_model, p_usage);
BEGIN
    INSERT INTO side_usage (chat_id, user_id, purpose, model, usage)
        VALUES (c.id, c.owner_id, p_purpose, p_model, p_usage);
    PERFORM record_usage(c, p_model, p_usage, spent);
    UPDATE usage_days SET steps = steps - 1
        WHERE chat_id = c.id AND day = (now() AT TIME ZONE 'UTC')::date AND model = p_model;
END $$;
