-- Of an MCP server: patterns of the names of its tools that change nothing anywhere. Whoever added
-- the server says so; what it says of itself is not believed.
ALTER TABLE mcp_servers ADD COLUMN read_only text[] NOT NULL DEFAULT '{}';
