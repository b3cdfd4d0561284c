-- Chats and their agents: who is above and below whom. First, as the other files build on it.

-- A chat and those above it. UNION, not UNION ALL: a circle comes to its end.
CREATE OR REPLACE FUNCTION lineage(p_chat uuid)
RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE above AS (
        SELECT id, parent_id FROM chats WHERE id = p_chat
        UNION
        SELECT c.id, c.parent_id FROM chats c JOIN above ON c.id = above.parent_id
    )
    SELECT id FROM above
$$;

-- PL/pgSQL, as others on the path of a turn: a function in SQL would be planned at every call.
CREATE OR REPLACE FUNCTION depth_of(c chats)
RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF c.parent_id IS NULL THEN
        RETURN 0;
    END IF;
    RETURN (SELECT count(*)::integer - 1 FROM lineage(c.id));
END $$;

-- A chat and those below it that share its fate, itself first.
CREATE OR REPLACE FUNCTION attached(p_chat uuid)
RETURNS SETOF chats LANGUAGE sql STABLE AS $$
    WITH RECURSIVE below AS (
        SELECT id, 0 AS depth FROM chats WHERE id = p_chat
        UNION ALL
        SELECT child.id, below.depth + 1 FROM chats child JOIN below ON child.parent_id = below.id
            WHERE NOT child.detached AND below.depth < 100
    )
    SELECT c.* FROM chats c JOIN below USING (id) ORDER BY below.depth, c.id
$$;

-- A chat and its descendants, itself first.
CREATE OR REPLACE FUNCTION family(p_chat uuid)
RETURNS SETOF chats LANGUAGE sql STABLE AS $$
    WITH RECURSIVE below AS (
        SELECT id, 0 AS depth FROM chats WHERE id = p_chat
        UNION ALL
        SELECT child.id, below.depth + 1 FROM chats child JOIN below ON child.parent_id = below.id
            WHERE below.depth < 100
    )
    SELECT c.* FROM chats c JOIN below USING (id) ORDER BY below.depth, c.id
$$;

CREATE OR REPLACE FUNCTION tree_cost(c chats)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN c.parent_id IS NULL
        THEN (SELECT coalesce(sum(u.cost), 0) FROM usage_days u WHERE u.root_id = c.id)
        ELSE (SELECT coalesce(sum(u.cost), 0) FROM usage_days u
            WHERE u.chat_id IN (SELECT f.id FROM family(c.id) f)) END
$$;
