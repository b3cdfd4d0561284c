-- Everything a deployment remembers. Applied once; later changes are files of their own.

CREATE TABLE users (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
    role text NOT NULL CHECK (role IN ('admin', 'member')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Tokens are stored as SHA-256 digests: a copy of the database lets nobody in.
CREATE TABLE tokens (
    digest text PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX tokens_by_user ON tokens (user_id);

CREATE TABLE sign_in_codes (
    digest text PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);

CREATE TABLE providers (
    id text PRIMARY KEY,
    type text NOT NULL,
    display_name text NOT NULL,
    base_url text,
    api_key bytea,                         -- encrypted by the store; never leaves it in the clear
    enabled boolean NOT NULL DEFAULT true, -- but towards chatloop
    preset boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE models (
    name text PRIMARY KEY,                 -- <provider id>/<model id>
    provider_id text NOT NULL REFERENCES providers ON DELETE CASCADE,
    model_id text NOT NULL,
    display_name text NOT NULL,
    context_limit integer CHECK (context_limit > 0),
    max_output_tokens integer NOT NULL CHECK (max_output_tokens > 0),
    tools boolean NOT NULL DEFAULT true,   -- whether tools are offered to it
    enabled boolean NOT NULL DEFAULT true,
    is_default boolean NOT NULL DEFAULT false,
    preset boolean NOT NULL DEFAULT false,
    UNIQUE (provider_id, model_id)
);
CREATE UNIQUE INDEX models_one_default ON models (is_default) WHERE is_default;

-- The table of transitions.py, written anew at every migration: the functions read it.
CREATE TABLE state_machine (
    status text NOT NULL,
    transition text NOT NULL,
    next_status text NOT NULL,
    next_with_backlog text NOT NULL,       -- where it goes when a queued message is promoted
    PRIMARY KEY (status, transition)
);

CREATE TABLE chats (
    id uuid PRIMARY KEY,
    part smallint NOT NULL CHECK (part BETWEEN 0 AND 255),
    owner_id uuid NOT NULL REFERENCES users,
    title text NOT NULL DEFAULT '',
    system_prompt text NOT NULL DEFAULT '',
    model text NOT NULL,                   -- no foreign key: a chat outlives its model
    status text NOT NULL DEFAULT 'waiting'
        CHECK (status IN ('waiting', 'running', 'interrupting', 'requires_action', 'error')),
    archived boolean NOT NULL DEFAULT false,
    snapshot_version bigint NOT NULL DEFAULT 1,
    history_version bigint NOT NULL DEFAULT 1,
    queue_version bigint NOT NULL DEFAULT 0,
    generation_attempt integer NOT NULL DEFAULT 0,
    attempt_started_at timestamptz,
    steps integer NOT NULL DEFAULT 0,      -- model steps committed in the present turn
    runner_id text,
    last_error json,
    last_outcome text,
    client_key text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX chats_by_owner ON chats (owner_id, updated_at DESC, id DESC);
CREATE INDEX chats_runnable ON chats (id) WHERE status IN ('running', 'interrupting');
CREATE UNIQUE INDEX chats_client_key ON chats (owner_id, client_key) WHERE client_key IS NOT NULL;

CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chat_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    visibility text NOT NULL DEFAULT 'both' CHECK (visibility IN ('user', 'model', 'both')),
    -- json, not jsonb: provider blocks must come back byte for byte, with their key order and \u0000.
    content json NOT NULL,
    public_content json,                   -- without what is internal; NULL when that is the same
    content_version smallint NOT NULL DEFAULT 1,
    size integer NOT NULL,                 -- bytes of content, to page without reading it
    revision bigint NOT NULL,              -- the snapshot version at which the row last changed
    model text,
    usage json,
    stop text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz
);
CREATE INDEX messages_by_chat ON messages (chat_id, id);
CREATE INDEX messages_by_revision ON messages (chat_id, revision, id);

CREATE TABLE queued_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chat_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    position bigint NOT NULL,
    content json NOT NULL,
    model text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX queued_messages_in_order ON queued_messages (chat_id, position);

-- Replies to requests that carried a client key, so that a repeated request changes nothing.
CREATE TABLE client_keys (
    chat_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    client_key text NOT NULL,
    reply json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (chat_id, client_key)
);

-- Unlogged: after a crash of PostgreSQL nobody holds a lease, and the next renewal writes it anew.
-- A lease counts only while its runner is the chat's: one that was overtaken cannot disturb.
CREATE UNLOGGED TABLE leases (
    chat_id uuid NOT NULL,
    runner_id text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (chat_id, runner_id)
);

-- Events on their way to the log. No foreign key: the last event of a chat outlives it.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chat_id uuid NOT NULL,
    part smallint NOT NULL,
    event text NOT NULL,
    body json NOT NULL
);
