-- As whom we are registered at sign-in servers: once for each server, issuer and way back.
CREATE TABLE mcp_clients (
    server_id uuid NOT NULL REFERENCES mcp_servers ON DELETE CASCADE,
    issuer text NOT NULL,
    redirect_uri text NOT NULL,
    client_id text NOT NULL,
    sealed bytea NOT NULL,                -- JSON: the client, with its secret
    proven boolean NOT NULL DEFAULT false, -- somebody has signed in with it
    expires_at timestamptz,               -- of its secret; NULL: never
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (server_id, issuer, redirect_uri)
);

-- Servers that were deleted before chats forgot them.
UPDATE chats c SET mcp_server_ids = ARRAY(
        SELECT id FROM unnest(c.mcp_server_ids) WITH ORDINALITY AS chosen (id, place)
        WHERE EXISTS (SELECT 1 FROM mcp_servers s WHERE s.id = chosen.id) ORDER BY place)
    WHERE EXISTS (SELECT 1 FROM unnest(c.mcp_server_ids) AS chosen
        WHERE NOT EXISTS (SELECT 1 FROM mcp_servers s WHERE s.id = chosen));
