-- Whose list an event changes: the relay publishes such events to the owner as well. Also of chats
-- that are deleted by then. NULL in what was written before.
ALTER TABLE outbox ADD COLUMN owner_id uuid;
