-- A retry that is waited for, the end of deleted chats in the log, a place to try a write.

-- What a client that attaches now is told of it; true while the history is still at that version.
ALTER TABLE chats
    ADD COLUMN retry json,
    ADD COLUMN retry_history bigint;

-- Deleted chats whose last events are still in the log. No foreign key: the chats are gone.
CREATE TABLE purges (
    chat_id uuid PRIMARY KEY,
    due_at timestamptz NOT NULL
);
CREATE INDEX purges_due ON purges (due_at);

-- Always empty: a row is written and taken back to see whether the disk takes it. As it is: what
-- can be compressed or left in a page that is there already would not ask for any room.
CREATE TABLE write_probe (filler bytea NOT NULL);
ALTER TABLE write_probe ALTER COLUMN filler SET STORAGE PLAIN;
