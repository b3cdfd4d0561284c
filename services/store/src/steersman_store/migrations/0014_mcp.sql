-- MCP servers of the deployment and of its users, and which of them a chat has chosen.

CREATE TABLE mcp_servers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid REFERENCES users ON DELETE CASCADE, -- NULL: of the deployment, for everybody
    slug text NOT NULL,
    name text NOT NULL,
    transport text NOT NULL CHECK (transport IN ('http', 'sse', 'stdio')),
    url text,
    command text[] NOT NULL,
    auth text NOT NULL CHECK (auth IN ('none', 'api_key', 'headers', 'oauth')),
    header text NOT NULL,
    oauth_client_id text,
    oauth_scope text,
    secrets bytea,                        -- JSON, encrypted by the store, bound to the id
    header_names text[] NOT NULL,
    env_names text[] NOT NULL,
    allow text[] NOT NULL,
    deny text[] NOT NULL,
    availability text NOT NULL CHECK (availability IN ('force_on', 'default_on', 'default_off')),
    needs_approval boolean NOT NULL,
    call_timeout_s double precision NOT NULL,
    enabled boolean NOT NULL,
    problem text,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (owner_id, slug),
    CHECK ((transport = 'stdio') = (url IS NULL))
);

ALTER TABLE chats
    ADD COLUMN mcp_server_ids uuid[];     -- NULL: those that are on by default

-- What one person holds at one server: sealed, and renewed by one tools service at a time.
CREATE TABLE mcp_sign_ins (
    server_id uuid NOT NULL REFERENCES mcp_servers ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    sealed bytea NOT NULL,                -- JSON: tokens, and the client that they belong to
    generation bigint NOT NULL DEFAULT 1, -- grows with every new token
    expires_at timestamptz,               -- of the access token; NULL: not said
    renewing_until timestamptz,           -- somebody fetches a new token
    expired boolean NOT NULL DEFAULT false,
    PRIMARY KEY (server_id, user_id)
);

-- Sign-ins that were begun, by the digest of their state.
CREATE TABLE mcp_logins (
    state text PRIMARY KEY,
    server_id uuid NOT NULL REFERENCES mcp_servers ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    sealed bytea NOT NULL,                -- JSON: the verifier, the client, where to ask
    expires_at timestamptz NOT NULL
);
CREATE INDEX mcp_logins_by_age ON mcp_logins (expires_at);
