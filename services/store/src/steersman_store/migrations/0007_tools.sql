-- The ledger of tool calls, and what administrators set for plugins.

-- No foreign key: its check would wait for whoever changes the chat. The sweep removes what belongs
-- to chats that are gone.
CREATE TABLE tool_calls (
    chat_id uuid NOT NULL,
    call_id text NOT NULL,
    epoch bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('reserved', 'running', 'done', 'unknown')),
    fingerprint text,                      -- NULL: refused before it was asked for
    host text,
    result bytea,                          -- JSON as the host sent it; never taken apart here
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (chat_id, call_id, epoch)
);
CREATE INDEX tool_calls_by_age ON tool_calls (created_at);

CREATE TABLE tool_hosts (
    host text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

CREATE TABLE plugin_settings (
    plugin text PRIMARY KEY,
    settings json NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE plugin_secrets (
    plugin text NOT NULL,
    name text NOT NULL,
    sealed bytea NOT NULL,                 -- encrypted by the store, bound to plugin and name
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plugin, name)
);
