-- Which desktop a chat uses: its own, or that of a chat above it as far as each on the way shares.
-- A detached agent that outlives its parent has none above it, and so its own.
CREATE OR REPLACE FUNCTION desktop_of(
    p_chat uuid, OUT owner text, OUT above text[], OUT kind text, OUT server text
) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up AS (
        SELECT c.id, c.parent_id, c.shares_desktop, 0 AS height FROM chats c WHERE c.id = p_chat
        UNION ALL
        SELECT c.id, c.parent_id, c.shares_desktop, up.height + 1
            FROM up JOIN chats c ON c.id = up.parent_id
            WHERE up.shares_desktop AND up.height < 100
    ), top AS (SELECT up.id FROM up ORDER BY up.height DESC LIMIT 1)
    SELECT coalesce((SELECT id FROM top), p_chat)::text,
        coalesce((SELECT array_agg(up.id::text ORDER BY up.height) FROM up WHERE up.height > 0), '{}'),
        (SELECT c.agent_kind FROM chats c WHERE c.id = p_chat),
        (SELECT s.address FROM desktop_servers s JOIN top ON s.chat_id = top.id)
$$;
