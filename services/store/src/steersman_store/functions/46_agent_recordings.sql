-- Where the newest recordings of an agent can be seen, in the order in which they were made.
CREATE OR REPLACE FUNCTION recordings_of(p_agent uuid)
RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(
            '/api/v1/chats/' || r.chat_id || '/desktop/recordings/' || r.recording_id || '/player'
            ORDER BY r.recording_id), '{}')
        FROM (SELECT * FROM agent_recordings
                WHERE agent_id = p_agent AND EXISTS (SELECT 1 FROM chats WHERE id = chat_id)
                ORDER BY recording_id DESC LIMIT 8) r
$$;
