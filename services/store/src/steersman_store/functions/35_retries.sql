-- The retry that a running turn waits for.

-- Set by `record_retry`. The next attempt sets `attempt_started_at`, and a step that is committed a
-- new history version. What may leave the history as it is takes it back: an end of the turn, a
-- pause, a summary that is begun.
CREATE OR REPLACE FUNCTION pending_retry(c chats)
RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN c.status = 'running' AND c.attempt_started_at IS NULL
        AND c.retry_history = c.history_version THEN c.retry END
$$;
