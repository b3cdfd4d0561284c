-- Long work, where it meets the worker: plans, questions, limits.

-- A chat as its worker would get it, for somebody who may read it.
CREATE OR REPLACE FUNCTION look_at_chat(p_actor uuid, p_chat uuid)
RETURNS worker_result LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN owned_result(read_chat(p_chat, p_actor), '[]', true);
END $$;
