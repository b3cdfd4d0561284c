-- What is chosen for a chat, by itself or else by the nearest above it that has chosen; NULL for
-- what is on by default.
CREATE OR REPLACE FUNCTION chosen_mcp_servers(c chats)
RETURNS uuid[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF c.mcp_server_ids IS NOT NULL OR c.parent_id IS NULL THEN
        RETURN c.mcp_server_ids;
    END IF;
    RETURN (WITH RECURSIVE above AS (
        SELECT c.mcp_server_ids AS ids, c.parent_id, 0 AS height
        UNION ALL
        SELECT p.mcp_server_ids, p.parent_id, a.height + 1
            FROM above a JOIN chats p ON p.id = a.parent_id WHERE a.ids IS NULL AND a.height < 100
    )
    SELECT a.ids FROM above a ORDER BY a.height DESC LIMIT 1);
END $$;

-- Which MCP servers a chat may use: those of the deployment and of its owner, as far as they are
-- chosen.
CREATE OR REPLACE FUNCTION mcp_servers_of(c chats)
RETURNS SETOF mcp_servers LANGUAGE sql STABLE AS $$
    WITH chosen AS MATERIALIZED (SELECT chosen_mcp_servers(c) AS ids)
    SELECT s.* FROM mcp_servers s, chosen
        WHERE s.enabled AND (s.owner_id IS NULL OR s.owner_id = c.owner_id)
            AND (s.availability = 'force_on'
                OR CASE WHEN chosen.ids IS NULL THEN s.availability = 'default_on'
                    ELSE s.id = ANY (chosen.ids) END)
        ORDER BY s.owner_id IS NOT NULL, s.slug
$$;

-- Refuses a choice of what is not there for this user.
CREATE OR REPLACE FUNCTION check_mcp_servers(p_user uuid, p_ids uuid[])
RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    missing uuid;
BEGIN
    SELECT wanted INTO missing FROM unnest(p_ids) AS wanted
        WHERE NOT EXISTS (SELECT 1 FROM mcp_servers s
            WHERE s.id = wanted AND (s.owner_id IS NULL OR s.owner_id = p_user)) LIMIT 1;
    IF missing IS NOT NULL THEN
        PERFORM refuse('invalid_request', 'there is no such MCP server',
            jsonb_build_object('field', 'mcp_server_ids', 'server_id', missing));
    END IF;
END $$;
