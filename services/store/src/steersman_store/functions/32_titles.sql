-- Titles that models find. A person's title is replaced only when a person asked for it.

-- The next one to name a chat: counts the attempt, and returns what it needs. No row: nothing to do.
CREATE OR REPLACE FUNCTION take_title(
    p_chat uuid, p_max_attempts integer,
    OUT model text, OUT title_source text, OUT content json, OUT provider_type text,
    OUT model_ids text[], OUT model_names text[]
) RETURNS SETOF record LANGUAGE sql AS $$
    WITH taken AS (
        UPDATE chats c SET title_attempts = title_attempts + 1
            WHERE c.id = p_chat AND NOT c.archived AND c.title_attempts < p_max_attempts
                AND (c.title_source = 'auto' OR c.title_requested)
            RETURNING c.*
    )
    SELECT t.model, t.title_source, first.content, p.type, others.ids, others.names
        FROM taken t
        JOIN models own ON own.name = t.model
        JOIN providers p ON p.id = own.provider_id AND p.enabled
        JOIN LATERAL (SELECT m.content FROM messages m
            WHERE m.chat_id = t.id AND m.role = 'user' AND m.deleted_at IS NULL
            ORDER BY m.id LIMIT 1) first ON true
        JOIN LATERAL (SELECT array_agg(m.model_id ORDER BY m.name) AS ids,
                array_agg(m.name ORDER BY m.name) AS names
            FROM models m WHERE m.provider_id = p.id AND m.enabled) others ON others.ids IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION access_for(p_chat uuid, p_model text)
RETURNS worker_result LANGUAGE plpgsql STABLE AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat;
    c.model := p_model;
    RETURN owned_result(c, '[]', true);
END $$;

CREATE OR REPLACE FUNCTION set_generated_title(
    p_chat uuid, p_title text, p_model text, p_replaces text, p_usage json
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    SELECT * INTO c FROM chats WHERE id = p_chat FOR UPDATE;
    IF c.id IS NULL THEN
        RETURN false;
    END IF;
    IF p_usage IS NOT NULL OR p_title <> '' THEN  -- without a number it is paid for as well
        PERFORM record_side_usage(c, 'title', p_model, p_usage);
    END IF;
    IF p_title = '' OR c.archived OR c.title_source <> p_replaces
        OR NOT (c.title_source = 'auto' OR c.title_requested)
    THEN
        RETURN false;
    END IF;
    UPDATE chats SET title = p_title, title_source = 'generated', title_requested = false
        WHERE id = c.id;
    PERFORM touch_chat(c);
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION regenerate_title(p_actor uuid, p_chat uuid)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats := lock_chat(p_chat, p_actor);
BEGIN
    PERFORM next_status(c, 'update');
    UPDATE chats SET title_requested = true, title_attempts = 0 WHERE id = c.id;
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;
