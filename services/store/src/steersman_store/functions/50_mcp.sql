-- Which MCP servers a chat may use: those of the deployment and of its owner, as far as they are
-- chosen. A child that has chosen nothing has what its parent has.
CREATE OR REPLACE FUNCTION mcp_servers_of(c chats)
RETURNS SETOF mcp_servers LANGUAGE sql STABLE AS $$
    SELECT s.* FROM mcp_servers s,
        (SELECT coalesce(c.mcp_server_ids,
            (SELECT p.mcp_server_ids FROM chats p WHERE p.id = c.parent_id)) AS ids) chosen
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
