-- Workspaces of chats. Their states are a table in the contracts; the store's Python reads it.

-- The outermost chat of a family, which remembers the workspace for all of it.
CREATE OR REPLACE FUNCTION root_of(p_chat uuid)
RETURNS uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE above AS (
        SELECT id, parent_id, 0 AS depth FROM chats WHERE id = p_chat
        UNION ALL
        SELECT up.id, up.parent_id, above.depth + 1 FROM chats up JOIN above
            ON up.id = above.parent_id WHERE above.depth < 100
    )
    SELECT id FROM above ORDER BY depth DESC LIMIT 1
$$;

-- Nothing about the turn changes: this is the transition `update`, which no status refuses. People
-- may not ask for it while the chat is archived (`check_changeable`); a workspace that goes away
-- goes away for archived chats as well.
CREATE OR REPLACE FUNCTION set_workspace(p_chat uuid, p_workspace uuid)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    UPDATE chats SET workspace_id = p_workspace, snapshot_version = snapshot_version + 1,
            updated_at = now()
        WHERE id = p_chat AND workspace_id IS DISTINCT FROM p_workspace RETURNING * INTO c;
    IF FOUND THEN
        PERFORM emit(c, 'chat.updated', json_build_object(
            'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
    END IF;
END $$;
