-- Summaries of older history.

ALTER TABLE chats ADD COLUMN compaction_requested boolean NOT NULL DEFAULT false;

ALTER TABLE messages
    DROP CONSTRAINT messages_boundary_check,
    ADD CHECK (boundary IN ('clear', 'summary', 'summary-at-rest'));
