-- Workspaces: rows here, files with the tools service.

CREATE TABLE workspaces (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name text NOT NULL,
    template text NOT NULL,
    driver text NOT NULL,
    parameters json NOT NULL,
    environment json NOT NULL,
    state text NOT NULL CHECK (
        state IN ('creating', 'running', 'stopping', 'stopped', 'failed', 'deleted')),
    reason text NOT NULL DEFAULT '',
    host text NOT NULL, -- which replica makes it, stops it or removes its files
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX workspaces_by_owner ON workspaces (owner_id, created_at);
-- What the tools service looks at every few seconds.
CREATE INDEX workspaces_restless ON workspaces (last_used_at)
    WHERE state IN ('creating', 'running', 'stopping', 'deleted');

CREATE TABLE template_uses (
    template text PRIMARY KEY,
    uses integer NOT NULL
);

-- Of the outermost chat of a family: its descendants share it.
ALTER TABLE chats ADD COLUMN workspace_id uuid REFERENCES workspaces;
CREATE INDEX chats_by_workspace ON chats (workspace_id) WHERE workspace_id IS NOT NULL;
