-- Client-side tools, boundaries of the context, families of chats, archived as a dimension.

ALTER TABLE chats
    ADD COLUMN client_tools json NOT NULL DEFAULT '[]',
    -- What a chat in requires_action waits for: all local calls of the last step in order, the
    -- results that are there (NULL: pending), and the pending calls as clients see them. Arrays and
    -- not one JSON object: taking JSON apart would trip over \u0000 in a text.
    ADD COLUMN action_calls text[],
    ADD COLUMN action_tools text[],
    ADD COLUMN action_results json[],
    ADD COLUMN action_pending json,
    ADD COLUMN action_expires_at timestamptz,
    ADD COLUMN parent_id uuid REFERENCES chats ON DELETE CASCADE;
CREATE INDEX chats_expiring ON chats (action_expires_at) WHERE action_expires_at IS NOT NULL;
CREATE INDEX chats_by_parent ON chats (parent_id) WHERE parent_id IS NOT NULL;

ALTER TABLE messages ADD COLUMN boundary text CHECK (boundary IN ('clear'));

DELETE FROM state_machine;
ALTER TABLE state_machine
    DROP CONSTRAINT state_machine_pkey,
    ADD COLUMN archived boolean NOT NULL,
    ADD PRIMARY KEY (archived, status, transition);
