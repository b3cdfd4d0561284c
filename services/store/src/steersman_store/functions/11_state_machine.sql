-- What the state machine says where there is no chat to lock, or more than one.

-- The status of a chat that is being made: with a first message to answer, or with none.
CREATE OR REPLACE FUNCTION first_status(p_starts boolean)
RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT CASE WHEN p_starts THEN m.next_with_backlog ELSE m.next_status END
        FROM state_machine m
        WHERE NOT m.archived AND m.status = '' AND m.transition = 'create');
END $$;

-- Refuses what changes a chat while it, or the one that it shares things with, is archived. The
-- caller holds the locks.
CREATE OR REPLACE FUNCTION check_changeable(p_chats uuid[])
RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM next_status(c, 'update') FROM chats c WHERE c.id = ANY (p_chats);
END $$;
