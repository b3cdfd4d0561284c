-- Takes a server that is deleted out of the choice of every chat. A chat that had chosen it alone
-- has chosen none then: what is on by default was not what its owner wanted.
CREATE OR REPLACE FUNCTION forget_mcp_server(p_server uuid)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    FOR c IN SELECT * FROM chats WHERE p_server = ANY (mcp_server_ids) ORDER BY id FOR UPDATE LOOP
        UPDATE chats SET mcp_server_ids = array_remove(mcp_server_ids, p_server),
                snapshot_version = snapshot_version + 1, updated_at = now()
            WHERE id = c.id RETURNING * INTO c;
        PERFORM emit(c, 'chat.updated', json_build_object(
            'chat_id', c.id, 'snapshot_version', c.snapshot_version, 'chat', chat_json(c)));
        RETURN NEXT c.id;
    END LOOP;
END $$;
