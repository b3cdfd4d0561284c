-- The retry that a running turn waits for.

-- Set by `record_retry`. The next attempt sets `attempt_started_at`, and every end of the step a new
-- history version or another status: so nothing has to take it back.
CREATE OR REPLACE FUNCTION pending_retry(c chats)
RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN c.status = 'running' AND c.attempt_started_at IS NULL
        AND c.retry_history = c.history_version THEN c.retry END
$$;
