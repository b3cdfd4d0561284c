-- A chat with a history from elsewhere. Like a fork, it is announced as a whole.
CREATE OR REPLACE FUNCTION import_chat(
    p_actor uuid, p_chat uuid, p_part smallint, p_title text, p_title_source text,
    p_system_prompt text, p_model text, p_key text, p_created_at timestamptz,
    p_roles text[], p_contents text[], p_publics text[], p_models text[], p_times timestamptz[],
    OUT reply json, OUT created boolean
) LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    PERFORM check_model(p_model);
    INSERT INTO chats (id, part, owner_id, title, title_source, system_prompt, model, client_key,
            created_at, updated_at)
        VALUES (p_chat, p_part, p_actor, p_title, p_title_source, p_system_prompt,
            coalesce(p_model, default_model()), p_key, coalesce(p_created_at, now()),
            coalesce((SELECT max(t) FROM unnest(p_times) AS t), p_created_at, now()))
        ON CONFLICT (owner_id, client_key) WHERE client_key IS NOT NULL DO NOTHING
        RETURNING * INTO c;
    created := c.id IS NOT NULL;
    IF NOT created THEN  -- the same request again
        SELECT * INTO c FROM chats WHERE owner_id = p_actor AND client_key = p_key;
    ELSE
        INSERT INTO messages (chat_id, role, content, public_content, size, revision, model,
                created_at)
            SELECT c.id, m.role, m.content::json, m.public::json, octet_length(m.content),
                    c.snapshot_version, m.model, coalesce(m.at, now())
                FROM unnest(p_roles, p_contents, p_publics, p_models, p_times)
                    WITH ORDINALITY AS m(role, content, public, model, at, n) ORDER BY m.n;
        INSERT INTO chat_marks (user_id, chat_id, last_read_id)
            SELECT p_actor, c.id, max(id) FROM messages WHERE chat_id = c.id;
        PERFORM emit(c, 'chat.created', json_build_object(
            'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
    END IF;
    reply := json_build_object('chat', chat_json(c), 'created', created);
END $$;
