-- Which providers have answered at the address that they have now.

-- Takes note of the first answer. A call that began before the address was changed went to another
-- one and says nothing about this: it began after the message that it answers.
CREATE OR REPLACE FUNCTION note_answer(answer messages)
RETURNS void LANGUAGE plpgsql AS $$  -- which keeps its plan
BEGIN
    UPDATE providers p SET unreached_since = NULL FROM models
        WHERE models.name = answer.model AND p.id = models.provider_id
            AND p.unreached_since IS NOT NULL  -- nearly never, and then nothing more is read
            AND p.unreached_since <= (SELECT m.created_at FROM messages m
                WHERE m.chat_id = answer.chat_id AND m.id < answer.id ORDER BY m.id DESC LIMIT 1);
END $$;
